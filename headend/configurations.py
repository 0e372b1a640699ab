"""Configurations of gateways at the head-end: kept in versions, offered until a gateway's journal answers, shown.

It cannot say whether a configuration is right for a gateway: `check` says what can be said here, the gateway the rest.
"""

import asyncio
from collections.abc import Callable
from typing import cast, get_args

import msgspec
import zstandard

from headend import steps
from headend.audit.chain import Entry
from headend.journal import Entries, Handler
from headend.key_floors import Publish
from headend.readings import BadRequestError, NotFoundError
from headend.registry import EVERYWHERE, covers
from headend.state.configs import Answer, Config, Configs, Final
from headend.state.gateways import Gateways
from headend.tokens import Grant
from metering import timing, wire
from metering.errors import ConfigError
from metering.model import SECOND
from metering.wire import MAX_CONFIG_BYTES, MAX_OFFER_BYTES, ConfigOffer

TICK_S = 1.0
FIRST_WAIT_S = 10.0  # until an offer without an answer is repeated; doubled each time
LONGEST_WAIT_S = 600.0  # a gateway may be away for weeks: an offer ends with its answer or a newer version
AT_ONCE = 10_000  # offers that are looked at together
SHOWN = 20  # versions in an answer
HEADROOM = 64  # bytes of an offer's payload besides its body


class VersionView(msgspec.Struct, frozen=True):
    """What became of a version: offered, superseded, applied, refused or rolled-back, and why."""

    version: int
    state: str
    reason: str
    put_at: str
    sent: int  # times that it was offered since this head-end started


class ConfigurationView(msgspec.Struct, frozen=True):
    """A gateway's configuration. `applied` 0: the gateway works by the file on site. `toml` is the newest version."""

    gateway: str
    applied: int
    versions: list[VersionView]
    toml: str


class ConfigurationOffice:
    """What the API asks, and what is sent. `run` until told to stop. `check` raises `ConfigError`."""

    def __init__(
        self,
        configs: Configs,
        gateways: Gateways,
        publish: Publish,
        check: Callable[[bytes], None],
        clock: Callable[[], int] = timing.now,
    ) -> None:
        self._configs = configs
        self._gateways = gateways
        self._publish = publish
        self._check = check
        self._clock = clock
        self._sent: dict[tuple[str, int], tuple[int, int]] = {}  # gateway and version: times, and when it is due again

    def handlers(self) -> dict[str, Handler]:
        """Return what takes which kind of journal entries."""
        return {"config": self._answers}

    def _answers(self, entries: Entries) -> None:
        answers: list[Answer] = []
        for gateway, entry in entries:
            known = entry.id.isascii() and entry.id.isdigit() and len(entry.id) < 19
            if known and entry.state in get_args(Final):
                state = cast("Final", entry.state)
                answers.append((gateway, int(entry.id), state, entry.detail.get("reason", "")[:500]))
        if answers:
            self._configs.answered(answers)

    async def run(self, stop: asyncio.Event) -> None:
        """Offer what has no answer until `stop`."""
        await steps.repeat(self.step, TICK_S, stop, "configurations wait")

    def here(self, gateway: str) -> None:
        """Take note, on the loop, that a gateway is there: what waits for it is due."""
        for key, (times, due) in self._sent.items():
            if key[0] == gateway and due:
                self._sent[key] = times, 0

    async def step(self) -> None:
        """Offer what is due. Raises `StorageError`, `LinkDownError`."""
        waiting = await asyncio.to_thread(self._configs.offered, AT_ONCE)
        self._sent = {key: self._sent.get(key, (0, 0)) for key in waiting}
        for key in waiting:
            times, due = self._sent[key]
            now = self._clock()
            found = await asyncio.to_thread(self._configs.get, *key) if due <= now else None
            if found is None:
                continue
            await self._publish(wire.topic(found.gateway, "config"), wire.encode(_offer(found)), retain=False)
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(times, 10))
            self._sent[key] = times + 1, now + int(wait * SECOND)

    # --- for the API --------------------------------------------------------------------------------------------------

    def put(self, grant: Grant, gateway: str, body: bytes) -> ConfigurationView:
        """Keep a configuration as a new version and offer it. Blocking.

        Raises:
            BadRequestError: it is wrong; names line and key.
            NotFoundError: there is no such gateway.

        """
        self._known(grant, gateway)
        if len(body) > MAX_CONFIG_BYTES:
            raise BadRequestError("configuration", f"it has more than {MAX_CONFIG_BYTES} bytes")
        if len(zstandard.compress(body)) > MAX_OFFER_BYTES - HEADROOM:
            raise BadRequestError("configuration", f"it has more than {MAX_OFFER_BYTES} bytes when compressed")
        try:
            self._check(body)
        except ConfigError as error:
            raise BadRequestError("configuration", str(error)) from None
        fields = {"bytes": len(body)}
        now = self._clock()
        entry = Entry(now, f"token:{grant.token}", "configuration-put", gateway, EVERYWHERE, fields)
        self._configs.offer(gateway, body, now, entry)
        return self.view(grant, gateway)

    def view(self, grant: Grant, gateway: str) -> ConfigurationView:
        """Return a gateway's configuration and what became of its versions. Blocking. Raises `NotFoundError`."""
        applied = self._known(grant, gateway)
        found = self._configs.newest(gateway, SHOWN)
        return ConfigurationView(
            gateway,
            applied,
            [
                VersionView(
                    each.version,
                    each.state,
                    each.reason,
                    timing.to_rfc3339(each.at),
                    self._sent.get((gateway, each.version), (0, 0))[0],
                )
                for each in found
            ],
            found[0].body.decode("utf-8", "replace") if found else "",
        )

    def _known(self, grant: Grant, gateway: str) -> int:
        found = self._gateways.get(gateway) if covers(grant.regions, EVERYWHERE) else None
        if found is None:
            raise NotFoundError(f"there is no gateway {gateway}")
        return found.config_version


def _offer(config: Config) -> ConfigOffer:
    return ConfigOffer(config.version, zstandard.compress(config.body))
