"""What each meter showed last: for the eyes of people and for health, not for billing."""

from typing import NamedTuple

from metering.model import Block, Kind
from metering.values import to_text


class Shown(NamedTuple):
    """The last value of one channel: a decimal string with its unit, when it was measured, and its quality flags."""

    kind: Kind
    value: str | None
    unit: str
    measured_at: int
    quality: int


class LastValues:
    """The last block of each meter and layout. Bounded by what the meters' profiles have."""

    def __init__(self) -> None:
        self._blocks: dict[str, dict[int, Block]] = {}

    def take(self, block: Block) -> None:
        """Remember a block."""
        self._blocks.setdefault(block.device, {})[id(block.layout)] = block

    def seen_at(self, device: str) -> int:
        """Return when the meter was last measured; 0 where it never was."""
        return max((block.measured_at for block in self._blocks.get(device, {}).values()), default=0)

    def of(self, device: str) -> dict[str, Shown]:
        """Return the last value of each of the meter's OBIS codes."""
        shown: dict[str, Shown] = {}
        for block in sorted(self._blocks.get(device, {}).values(), key=lambda block: block.measured_at):
            for index, column in enumerate(block.layout.columns):
                value = block.values[index]
                text = None if value is None else to_text(value, column.scale, column.number)
                shown[column.obis] = Shown(
                    block.layout.kind, text, column.unit, block.measured_at, block.quality_of(index)
                )
        return shown
