"""What a gateway does about meter keys with its head-end: reports counters, takes wrapped keys, lets them go.

The head-end carries keys that it cannot read and remembers how far counters were reserved; the answers are entries of
the journal. It speaks to no meter and to no broker.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from gateway.counters import meter_of
from gateway.keystore import KeyStore
from metering import events
from metering.errors import ConfigError, StorageError
from metering.events import EventType
from metering.wire import Control
from trust.transport import Bound, UnwrapError, public_key, unwrap

logger = structlog.get_logger(__name__)


class Journal(Protocol):
    """Where entries and events go (`gateway.recorder.Recorder`)."""

    def journal(self, kind: str, name: str, state: str, **detail: str) -> None:
        """Note an entry for the next commit."""
        ...

    def raise_event(self, kind: EventType, device: str = "", **detail: str) -> None:
        """Note an event, now."""
        ...


class KeyDesk:
    """Handles the controls `counters`, `keys` and `release` of the run `boot`. `begin` once, before meters are read."""

    def __init__(self, gateway: str, keys: KeyStore, journal: Journal, boot: Callable[[], str]) -> None:
        self._gateway = gateway
        self._keys = keys
        self._journal = journal
        self._boot = boot
        self._parts: set[int] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def controls(self) -> dict[str, Callable[[Control], None]]:
        """Return what handles which kind of control."""
        return {"counters": self.on_counters, "keys": self.on_keys, "release": self.on_release}

    def begin(self) -> None:
        """Tell our public key and all reservations, and use no counter before the head-end had time to answer.

        Raises:
            StorageError: another process has the counters, or the disk refused.

        """
        self._loop = asyncio.get_running_loop()
        counters = self._keys.counters
        counters.on_reserved = self._reserved
        counters.ask_headend()
        self._journal.journal("transport-key", self._gateway, public_key(self._keys.transport_key()).hex())
        for name, until in counters.reservations().items():
            self._reserved(name, until)

    def put_back(self, epoch: str) -> None:
        """Halt all counters: the log was put back, and they perhaps too. From any thread; raises `StorageError`."""
        self._keys.counters.halt_all(epoch)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._tell_put_back)

    def _tell_put_back(self) -> None:
        self._parts.clear()
        self._journal.raise_event(events.COUNTERS_HALTED, reason="the log was put back to an earlier state")

    def on_counters(self, control: Control) -> None:
        """Take the head-end's word of how far counters were reserved."""
        if control.boot != self._boot():
            return
        for meter in self._keys.counters.hear(control.floors):
            self._journal.raise_event(events.COUNTERS_HALTED, meter, reason="the head-end knows of later values")
        self._parts.add(control.first)
        if len(self._parts) >= control.last:
            self._parts.clear()
            self._keys.counters.all_heard()
        self._journal.journal("floors", control.id, "heard")

    def on_keys(self, control: Control) -> None:
        """Take wrapped keys and answer; what does not open, or is older than what came before, is refused and told."""
        reason = self._why_not(control)
        if not reason:
            try:
                self._take(control)
            except (UnwrapError, ConfigError, StorageError) as error:
                reason = str(error)
        if reason:
            logger.error("wrapped keys are refused", meter=control.device, reason=reason)
            self._journal.raise_event(events.WRAPPED_KEYS_REFUSED, control.device, reason=reason)
            self._answer(control, "refused", reason=reason)
        else:
            self._answer(control, "taken")

    def on_release(self, control: Control) -> None:
        """Use the keys of a lease, and of all before it, no more; answer with how far their counter was reserved."""
        meter, (_, lease) = control.device, self._keys.came(control.device)
        if lease > control.lease:
            return  # of an earlier time: the keys came again since
        self._keys.counters.halt(meter)  # at once: a conversation that is open sends nothing more
        self._keys.remove(meter, lease=control.lease)
        self._answer(control, "released", reserved=str(self._keys.counters.highest(meter)))

    def _why_not(self, control: Control) -> str:
        version, lease = self._keys.came(control.device)
        if control.lease < lease:
            return f"they belong to lease {control.lease}; lease {lease} was here already"
        if control.version < version:
            return f"version {control.version} is older than {version}, which came before"
        if control.lease == lease and not self._keys.fingerprint(control.device):
            return f"lease {lease} has ended"
        return ""

    def _take(self, control: Control) -> None:
        meter = control.device
        if self._keys.came(meter) == (control.version, control.lease):
            return  # asked again: they are here
        secrets = unwrap(control.body, Bound(meter, self._gateway, control.version), self._keys.transport_key())
        known = self._keys.keys_of(meter).encryption
        if not known or known != secrets.keys.get("encryption"):
            self._keys.counters.halt(meter, control.floors.get(meter, 0))
        self._keys.put(meter, dict(secrets.keys), counter=secrets.counter, version=control.version, lease=control.lease)

    def _answer(self, control: Control, state: str, **detail: str) -> None:
        self._journal.journal(
            "keys", control.device, state, lease=str(control.lease), version=str(control.version), **detail
        )

    def _reserved(self, name: str, until: int) -> None:
        self._journal.journal("counter", name, str(until), device=meter_of(name))
