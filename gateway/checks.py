"""What the gateway itself can see in a running total: it went back, rolled over, or began again. Not validation.

Nothing is dropped here: values get a quality flag and go on.
"""

from collections.abc import Mapping, Sequence

from metering.model import Block, Kind, Layout
from metering.quality import Quality

# A total that falls from the top tenth of its range into the bottom tenth has turned over.
ROLLOVER_SHARE = 10
# A total that falls below this share of its last value began again (a swap, a reset); otherwise it went backwards.
RESTART_SHARE = 100


class RegisterWatch:
    """Remembers the last value of each running total and flags what falls.

    `moduli` gives, for a device, the stored value at which each OBIS code turns over to zero (absent: not known).
    """

    def __init__(self, moduli: Mapping[str, Mapping[str, int]]) -> None:
        self._moduli = moduli
        # (device, layout key) -> the instant and the values last seen
        self._last: dict[tuple[str, str], tuple[int, list[float | None]]] = {}
        # Keys are digests: made once for each layout object, which is held here so that its id stays its own.
        self._keys: dict[int, tuple[Layout, str]] = {}

    def _key(self, block: Block) -> tuple[str, str]:
        known = self._keys.get(id(block.layout))
        if known is None:
            known = self._keys[id(block.layout)] = (block.layout, block.layout.key)
        return block.device, known[1]

    def remember(self, block: Block) -> None:
        """Take a block as known, without judging it (what the log already held when we started)."""
        if block.layout.kind is Kind.REGISTER:
            key = block.device, block.layout.key
            known = self._last.get(key)
            if known is None or known[0] < block.measured_at:
                self._last[key] = (block.measured_at, list(block.values))

    def check(self, block: Block) -> Block:
        """Return the block, with flags where a running total fell against the last reading of the same layout."""
        if block.layout.kind is not Kind.REGISTER:
            return block
        key = self._key(block)
        known = self._last.get(key)
        if known is None:
            self._last[key] = (block.measured_at, list(block.values))
            return block
        if block.measured_at <= known[0]:
            return block
        last = known[1]
        flags = _falls(last, block.values)
        merged = [new if new is not None else old for old, new in zip(last, block.values, strict=True)]
        self._last[key] = (block.measured_at, merged)
        if not flags:
            return block
        return self._flag(block, last, flags)

    def _flag(self, block: Block, last: Sequence[float | None], falls: list[int]) -> Block:
        quality = list(block.quality) if block.quality else [0] * len(block.values)
        moduli = self._moduli.get(block.device, {})
        for index in falls:
            modulus = moduli.get(block.layout.columns[index].obis)
            quality[index] |= _judge(last[index] or 0, block.values[index] or 0, modulus)
        return with_quality(block, quality)


def with_quality(block: Block, quality: Sequence[int]) -> Block:
    """Return the block with other quality flags."""
    return Block(
        block.layout,
        block.device,
        block.measured_at,
        block.received_at,
        block.values,
        block.slot,
        quality,
        block.revision,
    )


def suspect_clock(block: Block) -> Block:
    """Return the block with every value marked: the clock that stamped it had just stepped, or is not trusted."""
    quality = block.quality or [0] * len(block.values)
    return with_quality(block, [flags | Quality.CLOCK_SUSPECT for flags in quality])


def _falls(last: Sequence[float | None], values: Sequence[float | None]) -> list[int]:
    return [
        index
        for index, (old, new) in enumerate(zip(last, values, strict=True))
        if old is not None and new is not None and new < old
    ]


def _judge(old: float, new: float, modulus: int | None) -> Quality:
    if modulus and old > modulus - modulus // ROLLOVER_SHARE and new < modulus // ROLLOVER_SHARE:
        return Quality.ROLLOVER
    if 0 <= new < old / RESTART_SHARE:
        return Quality.RESTARTED
    return Quality.BACKWARDS
