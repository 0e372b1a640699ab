"""A block's values as one blob of fixed width, and back: exact for every value, however odd. No SQL.

The blob is the struct of the layout (int: 8 bytes, float32: 4, float64: 8, little-endian). Only where a value is
missing, flagged or too wide for its place a tail follows: four bytes of marks for each column (quality in bits 0-29),
then JSON with the digits of what is too wide. Equal values and qualities give equal bytes.
"""

import math
import struct
from collections.abc import Sequence

import msgspec

from metering.model import Block, Layout
from metering.ports import Channel
from storage.versions import HIGHEST_QUALITY, fitted, order_of

_CODES = {"int": "q", "float32": "f", "float64": "d"}
_ABSENT = 1 << 31  # there is no value
_WIDE = 1 << 30  # the value's digits stand in the JSON


class Packing:
    """Packs and unpacks the blocks of one layout."""

    def __init__(self, layout: Layout) -> None:
        if len(set(layout.columns)) != len(layout.columns):
            raise ValueError("the layout names the same channel twice")
        self.layout = layout
        self.codes = [_CODES[column.number] for column in layout.columns]
        self._struct = struct.Struct("<" + "".join(self.codes))
        self._marks = struct.Struct(f"<{len(self.codes)}I")
        self.width = self._struct.size
        self.offsets = [struct.calcsize("<" + "".join(self.codes[:index])) for index in range(len(self.codes))]
        self.iter_unpack = self._struct.iter_unpack
        channels = [Channel("", layout.kind, layout.source, layout.interval, column) for column in layout.columns]
        # The order of the columns' channels in answers, which is the same for every device.
        self.ordered = sorted((order_of(channel), index) for index, channel in enumerate(channels))

    def pack(self, block: Block) -> bytes:
        """Return the block's blob.

        Raises:
            ValueError: a value does not fit its column, or there are too many or too few; the message says which.

        """
        values = block.values
        if not any(block.quality):
            try:
                blob = self._struct.pack(*values)
                # What comes back must be what went in: float32 rounds, and NaN equals nothing. A sum finds infinities.
                if self._struct.unpack(blob) == tuple(values) and math.isfinite(sum(values)):  # type: ignore[arg-type]  # None raised above
                    return blob
            except (struct.error, OverflowError):
                pass
        return self._pack_odd(values, block.quality)

    def _pack_odd(self, values: Sequence[float | None], quality: Sequence[int]) -> bytes:
        count = len(self.codes)
        if len(values) != count or len(quality) not in {0, count}:
            raise ValueError(f"{len(values)} values and {len(quality)} qualities for {count} columns")
        plain: list[float] = []
        marks: list[int] = []
        wide: dict[str, str] = {}
        for index, column in enumerate(self.layout.columns):
            try:
                value, flags = fitted(column.number, values[index], quality[index] if quality else 0)
            except ValueError as error:
                raise ValueError(f"{column.obis}: {error}") from None
            if value is None:
                flags |= _ABSENT
            elif not self._fits(index, value):
                flags |= _WIDE
                wide[str(index)] = repr(value)
            plain.append(0 if value is None or flags & _WIDE else value)
            marks.append(flags)
        blob = self._struct.pack(*plain)
        if any(marks):
            blob += self._marks.pack(*marks)
        return blob + msgspec.json.encode(wide) if wide else blob

    def _fits(self, index: int, value: float) -> bool:
        code = "<" + self.codes[index]
        try:
            return bool(struct.unpack(code, struct.pack(code, value))[0] == value)
        except (struct.error, OverflowError):
            return False

    def unpack(self, blob: bytes) -> tuple[Sequence[float | None], Sequence[int]]:
        """Return values and qualities of a blob; the qualities are empty where all are 0."""
        values = self._struct.unpack_from(blob)
        return self.apply(values, blob[self.width :]) if len(blob) > self.width else (values, ())

    def apply(self, values: Sequence[float], tail: bytes) -> tuple[Sequence[float | None], Sequence[int]]:
        """Return values and qualities of a row with a tail."""
        marks = self._marks.unpack_from(tail)
        digits = tail[self._marks.size :]
        wide = msgspec.json.decode(digits, type=dict[str, str]) if digits else {}
        found: list[float | None] = list(values)
        for index, mark in enumerate(marks):
            if mark & _ABSENT:
                found[index] = None
            elif mark & _WIDE:
                text = wide[str(index)]
                found[index] = int(text) if self.codes[index] == "q" else float(text)
        return found, [mark & HIGHEST_QUALITY for mark in marks]
