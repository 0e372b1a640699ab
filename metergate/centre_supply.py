"""Wires supply control of a head-end: copies of trust documents, rule sets, registers, the service key."""

from collections.abc import Callable
from pathlib import Path

import structlog

from headend.audit.spool import Spool
from headend.state.registry import DatabaseRegistry
from headend.state.store import State
from headend.supply.book import Book
from headend.supply.desk import SupplyDesk
from headend.supply.outage import Outage
from headend.supply.thresholds import Limits
from metergate.headend_file import HeadendFile
from metergate.policy import build_policy
from metering import timing
from trust.document import TrustDocument, accept
from trust.keys import SigningKey

KEPT_FILE = "restores-kept.jsonl"  # beside the log: what gives back while the state takes nothing

_log = structlog.get_logger(__name__)


class TrustCopies:
    """The copies of gateways' trust documents, each read again when its file changes; `place` says where one is."""

    def __init__(self, place: Callable[[str], Path]) -> None:
        self._place = place
        self._known: dict[str, tuple[int, TrustDocument | None]] = {}

    def __call__(self, gateway: str) -> TrustDocument | None:
        """Return the copy of a gateway's document; None where there is none that holds."""
        path = self._place(gateway)
        try:
            changed = path.stat().st_mtime_ns
            if gateway not in self._known or self._known[gateway][0] != changed:
                self._known[gateway] = changed, self._read(path, gateway)
        except OSError:
            return None
        return self._known[gateway][1]

    def _read(self, path: Path, gateway: str) -> TrustDocument | None:
        try:
            return accept(None, path.read_bytes(), gateway)
        except ValueError as error:
            _log.error("a copy of a trust document cannot be used", file=str(path), reason=str(error))
            return None


def build_desk(file: HeadendFile, state: State, registry: DatabaseRegistry) -> SupplyDesk | None:
    """Return the supply desk; None where the file has no [supply]. Raises `ConfigError`."""
    settings = file.supply
    if settings is None:
        return None
    service = None
    if settings.service_key is not None:
        service = SigningKey.load(settings.service_key)
    limits = Limits(settings.user_per_hour, settings.user_per_day, settings.total_per_hour, settings.total_per_day)
    trust = TrustCopies(lambda gateway: settings.trust / f"{gateway}.json")
    policy = build_policy(file.policy, state, registry)
    outage = Outage(Spool(file.headend.data / KEPT_FILE), timing.now)
    return SupplyDesk(Book(state), registry, trust, policy, limits, service, outage=outage)
