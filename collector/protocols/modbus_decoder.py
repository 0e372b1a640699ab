"""Decodes all values of one reply at once, with one precomputed layout. The same results as `modbus_values.decode`."""

import math
import struct
from collections.abc import Callable, Sequence
from functools import partial
from operator import ge, itemgetter, le

from collector.protocols.modbus_values import ValueSpec, byte_positions, convert, decode

Values = tuple[float | None, ...]

_CODES = {
    "uint16": "H", "uint32": "I", "uint64": "Q", "int16": "h", "int32": "i", "int64": "q",
    "float32": "f", "float64": "d",
}  # fmt: skip


class Decoder:
    """The compiled form of several values in the register bytes of one reply.

    `fields` gives each value's first register, counted from the reply's first, and how it lies there. One struct takes
    all values out. Where words or bytes are in another order, or values overlap, the bytes are first picked into
    place. The quality of each value is looked at one by one only where something in the reply is unusual.
    """

    def __init__(self, fields: Sequence[tuple[int, ValueSpec]], registers: int) -> None:
        self._fields = tuple(fields)
        picked = [2 * offset + position for offset, spec in fields for position in byte_positions(spec)]
        natural = picked == sorted(set(picked))
        self._pick: Callable[[bytes], Sequence[int]] | None = None if natural else itemgetter(*picked)
        self._unpack = struct.Struct(_format(fields, registers if natural else None)).unpack
        self._fixes = tuple(
            (index, partial(_fix, spec))
            for index, (_, spec) in enumerate(fields)
            if spec.type not in _CODES or spec.multiplier != 1
        )
        self._sentinels = frozenset(
            value for _, spec in fields for p in spec.not_available if math.isfinite(value := convert(spec, p))
        )
        self._low = tuple(-math.inf if spec.low is None else spec.low for _, spec in fields)
        self._high = tuple(math.inf if spec.high is None else spec.high for _, spec in fields)
        self._bounded = any(spec.low is not None or spec.high is not None for _, spec in fields)

    def decode(self, data: bytes) -> tuple[Values, tuple[int, ...]]:
        """Return the values in the order of the fields, and their quality flags: empty where all are valid."""
        pick = self._pick
        values = self._unpack(data if pick is None else bytes(pick(data)))
        if self._fixes:
            fixed = list(values)
            for index, fix in self._fixes:
                fixed[index] = fix(fixed[index])
            values = tuple(fixed)
        if self._unusual(values):
            return self._one_by_one(data)
        return values, ()

    def _unusual(self, values: tuple[float, ...]) -> bool:
        """Tell whether any value may want a flag. A sum is not finite where one of its terms is not."""
        if not math.isfinite(sum(values)) or not self._sentinels.isdisjoint(values):
            return True
        return self._bounded and (False in map(le, self._low, values) or False in map(ge, self._high, values))

    def _one_by_one(self, data: bytes) -> tuple[Values, tuple[int, ...]]:
        results = [decode(spec, data[2 * offset : 2 * (offset + spec.count)]) for offset, spec in self._fields]
        quality = tuple(int(flags) for _, flags in results)
        return tuple(value for value, _ in results), quality if any(quality) else ()


def _format(fields: Sequence[tuple[int, ValueSpec]], registers: int | None) -> str:
    """Return the struct format over `registers` registers with gaps as padding; None: the values stand close."""
    parts = [">"]
    at = 0
    for offset, spec in fields:
        if registers is not None:
            parts.append("x" * (2 * (offset - at)))
            at = offset + spec.count
        parts.append(_CODES.get(spec.type, f"{2 * spec.count}s"))
    if registers is not None:
        parts.append("x" * (2 * (registers - at)))
    return "".join(parts)


def _fix(spec: ValueSpec, raw: float | bytes) -> float:
    """Return the number of a value that struct cannot give by itself: BCD, bits, 48-bit integers, multiples."""
    if isinstance(raw, bytes):
        return convert(spec, int.from_bytes(raw, "big"))
    return raw * spec.multiplier
