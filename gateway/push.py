"""Meters that publish by themselves: their running totals get the boundary they belong to. Nothing is read here."""

from collections.abc import Mapping

import msgspec

from metering.model import Block, Kind, Layout
from metering.timing import slot_at_or_before


class PushSlots:
    """Gives the first total that a meter publishes after a boundary that boundary as its slot.

    `intervals` holds, for each device, the interval in seconds at which its totals are promised. How far from the
    boundary a value was really taken stays in `measured_at`; whoever derives consumption judges it.
    """

    def __init__(self, intervals: Mapping[str, int]) -> None:
        self._intervals = intervals
        self._layouts: dict[tuple[Layout, int], Layout] = {}
        self._slots: dict[tuple[str, Layout], int] = {}

    def place(self, block: Block) -> Block:
        """Return the block in the promised channel, with its slot where it is the first of its interval."""
        interval = self._intervals.get(block.device, 0)
        if block.layout.kind is not Kind.REGISTER or not interval:
            return block
        layout = self._layouts.get((block.layout, interval))
        if layout is None:
            layout = self._layouts[block.layout, interval] = msgspec.structs.replace(block.layout, interval=interval)
        boundary = slot_at_or_before(block.measured_at, interval)
        key = block.device, layout
        first = self._slots.get(key, -1) < boundary
        if first:
            self._slots[key] = boundary
        return msgspec.structs.replace(block, layout=layout, slot=boundary if first else None)
