"""Registers of a meter with a steady load: running totals alone, for fleets where microseconds count. No curves."""

import struct

from metering.model import SECOND
from simulators.faults import Fault
from simulators.meter import MONTH_START

HOUR = 3600 * SECOND
KWH = 0.0001  # of the later registers for each one before: they differ, so that a mix-up would show


class SteadyTotals:
    """Each pair of registers is a running total in kWh as a float32 (`simulators.unit.Registers`). `kw` is the load."""

    __slots__ = ("_kw",)

    max_registers = 80

    def __init__(self, kw: float) -> None:
        self._kw = kw

    def read(self, function: int, address: int, count: int, now: int, fault: Fault | None) -> bytes:
        """Return the totals as of `now`; an odd last register is zero."""
        del function, fault
        total = self._kw * (now - MONTH_START) / HOUR
        pairs = count // 2
        values = [total + KWH * (address + 2 * place) for place in range(pairs)]
        return struct.pack(f">{pairs}f", *values) + bytes(2 * (count % 2))

    def befall(self, fault: Fault, now: int) -> None:
        """Do nothing: there is no meter behind."""
