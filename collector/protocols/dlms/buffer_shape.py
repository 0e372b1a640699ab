"""How the rows of a profile generic's buffer lie in its bytes, so that many are taken at once. Not what they mean."""

from functools import lru_cache
from struct import Struct

from collector.protocols.dlms.axdr import Tag

_CODES = {
    Tag.BOOLEAN: "?",
    Tag.DOUBLE_LONG: "i",
    Tag.DOUBLE_LONG_UNSIGNED: "I",
    Tag.BCD: "B",
    Tag.INTEGER: "b",
    Tag.LONG: "h",
    Tag.UNSIGNED: "B",
    Tag.LONG_UNSIGNED: "H",
    Tag.LONG64: "q",
    Tag.LONG64_UNSIGNED: "Q",
    Tag.ENUM: "B",
    Tag.FLOAT32: "f",
    Tag.FLOAT64: "d",
    Tag.DELTA_INTEGER: "b",
    Tag.DELTA_LONG: "h",
    Tag.DELTA_DOUBLE_LONG: "i",
    Tag.DELTA_UNSIGNED: "B",
    Tag.DELTA_LONG_UNSIGNED: "H",
    Tag.DELTA_DOUBLE_LONG_UNSIGNED: "I",
    Tag.DATE_TIME: "12s",
    Tag.DATE: "5s",
    Tag.TIME: "4s",
}
DELTAS = range(Tag.DELTA_INTEGER, Tag.DELTA_DOUBLE_LONG_UNSIGNED + 1)


class Shape:
    """How rows of one kind look: their size, which octets are the same in all of them, and where the values lie."""

    def __init__(
        self, size: int, fixed: tuple[tuple[int, int], ...], code: str, kinds: tuple[int, ...], clock: int
    ) -> None:
        self.size = size
        self.fixed = tuple((offset, bytes((octet,))) for offset, octet in fixed)
        self.unpacker = Struct(code)
        self.nulls = frozenset(index for index, kind in enumerate(kinds) if kind == Tag.NULL)
        self.deltas = frozenset(index for index, kind in enumerate(kinds) if kind in DELTAS)
        self.clock = clock  # offset of the date-time's octets; -1: none, or null-data

    def count(self, raw: bytes, at: int, most: int) -> int:
        """Return how many rows in a row, from `at` on and up to `most`, look like this."""
        size = self.size
        rows = min(most, (len(raw) - at) // size)
        for offset, octet in self.fixed:
            if not rows:
                break
            column = raw[at + offset : at + offset + (rows - 1) * size + 1 : size]
            if column != octet * rows:
                rows -= len(column.lstrip(octet))
        return rows


def shape_of(raw: bytes, begin: int, end: int, clocks: tuple[bool, ...]) -> Shape | None:
    """Return the shape of the row that lies here, already checked; None where such rows have no fixed shape.

    `clocks` tells for each column whether it is the clock's time.
    """
    at = begin + 2  # structure and count, which the row has in its short form up to 127 columns
    if len(clocks) > 0x7F:
        return None
    fixed = [(0, raw[begin]), (1, raw[begin + 1])]
    code = ">xx"
    kinds: list[int] = []
    clock = -1
    for is_clock in clocks:
        kind = raw[at]
        fixed.append((at - begin, kind))
        at += 1
        code += "x"
        if kind == Tag.OCTET_STRING:
            length = raw[at]
            if length > 0x7F:
                return None
            fixed.append((at - begin, length))
            at += 1
            code += "x"
            what = f"{length}s"
        elif kind == Tag.NULL:
            what = ""
        elif kind in _CODES:
            what = _CODES[Tag(kind)]
        else:
            return None
        size = Struct(">" + what).size
        if is_clock:
            clock = clock if kind == Tag.NULL else at - begin
            code += f"{size}x"
        else:
            kinds.append(kind)
            code += what
        at += size
    if at != end:  # a length in a longer form than it needs
        return None
    return _compiled(end - begin, tuple(fixed), code, tuple(kinds), clock)


@lru_cache(maxsize=256)
def _compiled(size: int, fixed: tuple[tuple[int, int], ...], code: str, kinds: tuple[int, ...], clock: int) -> Shape:
    return Shape(size, fixed, code, kinds, clock)
