"""Keeps how the simulated meters' supplies stand over restarts of a demo, as real meters do. It switches none."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from metering.errors import ConfigError, StorageError
from simulators.dlms_meter import DlmsMeter
from storage.files import replace_file

FILE = "relays.json"
LOOK_S = 0.2  # between two looks for a change


class Relay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One meter: class 70's control_state, the limiter's threshold, and when nothing flowed (us UTC).

    In `off` the last pair has no end where the supply is open.
    """

    control: int
    normal: int
    off: list[tuple[int, int | None]]


class Relays:
    """The supplies of some meters in a file. Blocking; the file is as large as a page."""

    def __init__(self, path: Path, meters: Mapping[str, DlmsMeter]) -> None:
        self._path = path
        self._meters = meters
        self._kept: dict[str, Relay] = {}

    def load(self) -> None:
        """Put each meter as it was; without a file all are as they are made. Raises `ConfigError`."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Relay])
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"{self._path} cannot be read: {error}; without it all meters are connected") from None
        for name in kept.keys() & self._meters.keys():
            _put(self._meters[name], kept[name])

    def keep(self) -> None:
        """Write how they stand, where that has changed. Raises `StorageError`."""
        now = {name: _relay_of(meter) for name, meter in self._meters.items()}
        if now == self._kept:
            return
        try:
            replace_file(self._path, msgspec.json.encode(now))
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}", retry=True) from None
        self._kept = now

    async def run(self, stop: asyncio.Event) -> None:
        """Keep them until `stop`. Raises `StorageError`."""
        while not stop.is_set():
            self.keep()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)
        self.keep()


def _relay_of(meter: DlmsMeter) -> Relay:
    return Relay(meter.switch.state, meter.limiter.normal, meter.meter.off_periods())


def _put(meter: DlmsMeter, relay: Relay) -> None:
    for start, end in relay.off:
        meter.meter.switch_supply(on=False, at=start)
        if end is not None:
            meter.meter.switch_supply(on=True, at=end)
    meter.switch.state = relay.control
    meter.limiter.normal = relay.normal
