"""Blocks, events and expectations as InfluxDB line protocol and back: pure text, no connection.

The schema is in `docs/storage-schema-influxdb.md`: one point for each block, a field for each column, `received`, and
`slot`, `revision`, `exceptions` where they say something. Times are microseconds since 1970 UTC.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from metering.model import Block, Event, Expectation, Layout
from storage.versions import fitted

READINGS = "readings"
VERSIONS = "versions"
LAYOUTS = "layouts"
EVENTS = "events"
EXPECTATIONS = "expectations"

BOOKKEEPING = (
    "received",
    "slot",
    "revision",
    "exceptions",
)  # of readings: the last three only where they say something
NO_END = -(2**63)  # a point needs a field, and a promise has only this one: so "none" is a number
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class Copy(NamedTuple):
    """What one stored point says: values and qualities of its columns, and when it came in which revision."""

    values: tuple[int | float | None, ...]
    quality: tuple[int, ...]
    received: int
    slot: int | None
    revision: int


@lru_cache(maxsize=65536)
def tag(text: str) -> str:
    r"""Return a tag's value as line protocol writes it.

    Raises:
        ValueError: empty, or with a control character or a backslash, which line protocol has no way to write.

    """
    if not text or "\\" in text or not text.isprintable():
        raise ValueError(f"{text!r} cannot be a tag: it is empty, or has a backslash or a control character")
    return text.replace(",", r"\,").replace("=", r"\=").replace(" ", r"\ ")


def quoted(text: str) -> str:
    """Return the text of a string field, in its quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def field_names(layout: Layout) -> tuple[str, ...]:
    """Return one field for each column: the OBIS code with `_i` for integers or `_f` for floats.

    InfluxDB fixes a field's type for all series of a measurement, so the type must be in the name. The second column
    of the same code and type (another unit or scale) gets its place in the layout behind it.
    """
    names: list[str] = []
    for index, column in enumerate(layout.columns):
        name = column.obis + ("_i" if column.number == "int" else "_f")
        names.append(name if name not in names else f"{name}_{index}")
    return tuple(names)


class LayoutLines:
    """Makes the lines of one layout's blocks, and reads their rows. Kept for as long as the layout is in use."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.key = layout.key
        self.names = field_names(layout)
        self._escaped = [tag(name) for name in self.names]
        self._integer = [column.number == "int" for column in layout.columns]
        self._types = tuple(int if integer else float for integer in self._integer)
        self._plain = (0,) * len(self.names)
        self._beyond = beyond_int64(self._integer)
        self._tags = f",interval={layout.interval},kind={layout.kind},layout={self.key},source={layout.source}"
        self._form = ",".join(
            f"{name.replace('%', '%%')}=%s{'i' if integer else ''}"
            for name, integer in zip(self._escaped, self._integer, strict=True)
        )

    def line(self, block: Block) -> str:
        """Return the block's line in `readings`.

        Raises:
            ValueError: the device's id or a value cannot be stored; the message says which.

        """
        values = block.values
        if not block.quality and tuple(map(type, values)) == self._types and not self._beyond(values):
            fields = self._form % tuple(values)
            # "n" is in nan and inf and in no number; an odd field name only costs the careful way.
            if "n" not in fields and "=-0.0" not in fields:
                slot = f",slot={block.slot}i" if block.slot is not None else ""
                revision = f",revision={block.revision}i" if block.revision else ""
                return (
                    f"readings,device={tag(block.device)}{self._tags} {fields},received={block.received_at}i"
                    f"{slot}{revision} {block.measured_at}"
                )
        return self.copy_line(block.device, block.measured_at, self.copy_of(block))

    def copy_of(self, block: Block) -> Copy:
        """Return what is to be stored of a block: NaN and infinities become no value, flagged.

        Raises:
            ValueError: a value does not fit its column exactly, or the block does not fit its layout.

        """
        if len(block.values) != len(self.names) or (block.quality and len(block.quality) != len(self.names)):
            raise ValueError(f"block of {block.device!r} has {len(block.values)} values for {len(self.names)} columns")
        if not block.quality and tuple(map(type, block.values)) == self._types and math.isfinite(sum(block.values)):  # type: ignore[arg-type]  # None has another type
            return Copy(tuple(block.values), self._plain, block.received_at, block.slot, block.revision)
        fitting = []
        for index, (column, value) in enumerate(zip(self.layout.columns, block.values, strict=True)):
            try:
                fitting.append(fitted(column.number, value, block.quality_of(index)))
            except ValueError as error:
                raise ValueError(f"{column.obis} of {block.device!r}: {error}") from None
        values = tuple(value for value, _ in fitting)
        return Copy(values, tuple(flags for _, flags in fitting), block.received_at, block.slot, block.revision)

    def copy_line(self, device: str, measured_at: int, copy: Copy, version: int = 0) -> str:
        """Return the line of a copy, in `readings` for version 0 and in `versions` otherwise. Raises as `tag`.

        Fields at their default are left out: where a copy replaces one, they only ever went up from it (`merge`).
        """
        fields, exceptions = [], []
        for index, (value, quality) in enumerate(zip(copy.values, copy.quality, strict=True)):
            if value is None:
                exceptions.append(f"{index}:{quality}:")
                continue
            beyond = not INT64_MIN <= value <= INT64_MAX if self._integer[index] else str(value) == "-0.0"
            if beyond:  # InfluxDB's integers end at 63 bits, and its JSON says -0 for -0.0
                exceptions.append(f"{index}:{quality}:{value}")
                continue
            fields.append(f"{self._escaped[index]}={value}{'i' if self._integer[index] else ''},")
            if quality:
                exceptions.append(f"{index}:{quality}:=")
        place = f"versions,device={tag(device)},number={version}" if version else f"readings,device={tag(device)}"
        slot = f",slot={copy.slot}i" if copy.slot is not None else ""
        revision = f",revision={copy.revision}i" if copy.revision else ""
        odd = f',exceptions="{";".join(exceptions)}"' if exceptions else ""
        return f"{place}{self._tags} {''.join(fields)}received={copy.received}i{slot}{revision}{odd} {measured_at}"

    def copy_from(self, cells: Sequence[Any], indexes: Sequence[int]) -> Copy:
        """Return the copy of a row: the cells of the columns at `indexes`, then those of `BOOKKEEPING`."""
        received, slot, revision, text = cells[-4:]
        if not text and None not in cells[:-4]:
            values = tuple(
                cell if self._integer[index] else float(cell) for index, cell in zip(indexes, cells, strict=False)
            )
            return Copy(values, (0,) * len(indexes), received, slot, revision or 0)
        exceptions = _exceptions(text or "")
        found: list[int | float | None] = []
        for index, cell in zip(indexes, cells, strict=False):
            what = exceptions[index][1] if index in exceptions else "="
            if what != "=":
                # What the exceptions say goes before the field: one beside them could be left from something older.
                found.append(None if not what else int(what) if self._integer[index] else float(what))
            else:
                found.append(cell if cell is None or self._integer[index] else float(cell))
        quality = tuple(exceptions[index][0] if index in exceptions else 0 for index in indexes)
        return Copy(tuple(found), quality, received or 0, slot, revision or 0)


def beyond_int64(integer: Sequence[bool]) -> Callable[[Sequence[Any]], bool]:
    """Return the test whether a block's values (none missing) have an integer that InfluxDB has no room for."""
    indexes = [index for index, one in enumerate(integer) if one]
    if not indexes:
        return lambda _values: False
    if len(indexes) == 1:
        only = indexes[0]
        return lambda values: not INT64_MIN <= values[only] <= INT64_MAX
    pick = itemgetter(*indexes)

    def beyond(values: Sequence[Any]) -> bool:
        integers = pick(values)
        return bool(max(integers) > INT64_MAX or min(integers) < INT64_MIN)

    return beyond


def _exceptions(text: str) -> dict[int, tuple[int, str]]:
    """Return index -> (quality, what) of `3:1:;4:0:18446744073709551615;5:256:=`.

    `what` is empty where there is no value, `=` where the field has it, otherwise an integer's digits.
    """
    if not text:
        return {}
    entries = (entry.split(":") for entry in text.split(";"))
    return {int(index): (int(quality), what) for index, quality, what in entries}


def layout_line(layout: Layout, time: int) -> str:
    """Return the line that keeps a layout's definition, so that units, scales and number types come back."""
    definition = msgspec.json.encode(layout).decode()
    return f"{LAYOUTS},layout={layout.key} definition={quoted(definition)} {time}"


def layout_from(definition: str) -> Layout:
    """Return the layout of `layout_line`'s field. Raises ValueError where it is none."""
    return msgspec.json.decode(definition, type=Layout)


def event_line(event: Event, number: int) -> str:
    """Return the line of an event. `number` tells events of one device and time apart. Raises ValueError as `tag`."""
    detail = msgspec.json.encode(event.detail, order="sorted").decode()  # the same id is the same text
    return (
        f"{EVENTS},device={tag(event.device)},number={number} code={quoted(event.code)},name={quoted(event.name)},"
        f"detail={quoted(detail)},received={event.received_at}i {event.time}"
    )


def expectation_line(expectation: Expectation) -> str:
    """Return the line of a promise to read, at `since`; the same promise again replaces `until`.

    Raises:
        ValueError: as `tag`.

    """
    one = expectation
    until = NO_END if one.until is None else one.until
    codes = ";".join(one.obis)
    return (
        f"{EXPECTATIONS},device={tag(one.device)},interval={one.interval},kind={one.kind},obis={tag(codes or '-')},"
        f"source={one.source} until={until}i {one.since}"
    )
