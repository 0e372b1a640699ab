"""The load switch of a simulated Modbus meter: its command and status points beside the registers. Sends nothing."""

from collections.abc import Sequence
from typing import Literal

from collector.profile import Profile
from collector.protocols.modbus import WRITE_SINGLE_COIL, Request
from metering.model import SECOND
from simulators.faults import Fault
from simulators.meter import MICRO
from simulators.registers import Entry, MeterRegisters, shown
from simulators.unit import UnreadableError

Misdeed = Literal["", "stuck", "deaf"]  # stuck: the contact does not move; deaf: it confirms and does nothing

_COILS = frozenset({1, 2})


class SwitchedRegisters(MeterRegisters):
    """A meter's registers with a relay.

    `misdeed` is what it does wrong, `delay_s` how long the contact takes, `back_feed_v` the voltage on the load side
    while it is open. `moved` notes what was ordered, in its order.
    """

    def __init__(self, registers: MeterRegisters, profile: Profile, load_side: Sequence[Entry] = ()) -> None:
        if profile.supply is None:
            raise ValueError(f"the profile {profile.name} has no load switch")
        super().__init__(registers.meter, registers.layout)
        self._supply = profile.supply
        self._load_side = {(entry.function, entry.address): entry for entry in load_side}
        self._pending: tuple[int, bool] | None = None
        self.misdeed: Misdeed = ""
        self.delay_s = 0.0
        self.back_feed_v = 0.0
        self.moved: list[bool] = []  # True: closed

    def read(self, function: int, address: int, count: int, now: int, fault: Fault | None) -> bytes:
        """Return registers' bytes, or the relay's status. Raises `UnreadableError`."""
        self._settle(now)
        status = self._supply.status
        if (function, address, count) == (status.function, status.address, 1):
            value = status.closed if self.meter.supply_on else status.open
            return bytes((value & 1,)) if function in _COILS else value.to_bytes(2, "big")
        if function in _COILS:
            raise UnreadableError
        if not self.meter.supply_on and (entry := self._load_side.get((function, address))) is not None:
            return shown(entry, round(self.back_feed_v * MICRO))[: 2 * count]
        return super().read(function, address, count, now, fault)

    def write(self, asked: Request, now: int) -> None:
        """Order the relay. Raises `UnreadableError` where there is no such point."""
        command = self._supply.command
        if (asked.function == WRITE_SINGLE_COIL) != (command.kind == "coil") or asked.address != command.address:
            raise UnreadableError
        value = int.from_bytes(asked.data, "big")
        value = int(value == 0xFF00) if command.kind == "coil" else value
        if value not in {command.open, command.closed}:
            raise UnreadableError
        self._settle(now)
        on = value == command.closed
        self.moved.append(on)
        if not self.misdeed:
            self._pending = (now + round(self.delay_s * SECOND), on)
            self._settle(now)

    def _settle(self, now: int) -> None:
        if self._pending is not None and now >= self._pending[0]:
            _, on = self._pending
            self._pending = None
            self.meter.switch_supply(on=on, at=now)
            self._tick = -1
