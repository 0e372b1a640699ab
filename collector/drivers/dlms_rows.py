"""A profile's buffer as blocks and events: times, statuses and values put together. Reads no meter."""

from collections.abc import Callable, Iterable, Sequence
from itertools import compress, pairwise
from math import isfinite
from operator import itemgetter
from typing import Any, NamedTuple

from collector.dlms_tables import EventsSpec, event_of
from collector.drivers.dlms_shape import Shape, ValueColumn
from collector.drivers.dlms_times import LATEST, MeterTime, Moment, in_order
from collector.drivers.dlms_values import LARGEST, checked, layout_of, word_of
from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Tag
from collector.protocols.dlms.load_profile import BufferReader
from metering.errors import FrameError
from metering.events import METER_OTHER
from metering.model import SECOND, Block, Column, Event, Number, Source
from metering.quality import Quality

HOUR_S = 3_600
_FLOATS: dict[Tag, Number] = {Tag.FLOAT32: "float32", Tag.FLOAT64: "float64"}


class Grid(NamedTuple):
    """How row times become slots.

    `interval` is in s (0: none), `beginning` says that the meter stamps its beginning, and `tolerance` how far from a
    boundary (us) a time may lie and still be the boundary's.
    """

    interval: int
    beginning: bool = False
    tolerance: int = 0


class TimedRows(NamedTuple):
    """The rows of a buffer that tell a time: UTC us as the meter stamped them, quality of the row, and the values.

    `untold` counts the rows that tell no time; they are not among them.
    """

    times: Sequence[int]
    flags: Sequence[int]
    values: Sequence[tuple[Any, ...]]
    untold: int


def decode_rows(raw: bytes, shape: Shape, time: MeterTime, period: int) -> TimedRows:
    """Return the rows of a buffer (A-XDR). `period` is the capture period in s, 0 where there is none.

    Raises:
        FrameError: it is no array of structures with these columns, or it breaks off.

    """
    odd = False

    def to_utc(octets: bytes) -> int | None:
        nonlocal odd
        moment = time.read(octets)
        odd = odd or moment.doubtful or moment.late is not None
        return moment.us

    rows = BufferReader(shape.columns, period, to_utc).rows(raw)
    flags = _statuses(shape, rows.values)
    times: Sequence[int | None] = rows.times
    if odd:
        times, doubts = _one_by_one(raw, shape, time, period, rows.values)
        flags = [flag | doubt for flag, doubt in zip(flags, doubts, strict=True)]
    # Periods added up over rows of null-data may lead anywhere.
    told = [t is not None and t < LATEST for t in times]
    if all(told):
        return TimedRows([t for t in times if t is not None], flags, rows.values, 0)
    return TimedRows(
        [t for t in times if t is not None and t < LATEST],
        list(compress(flags, told)),
        list(compress(rows.values, told)),
        told.count(False),
    )


def mark_adjusted(rows: TimedRows, period: int) -> TimedRows:
    """Return the rows, oldest first, with those flagged that came too soon after the one before, or bear its time.

    The meter's clock was corrected in between, where no power failure explains it. Periods (s) beyond an hour are not
    judged: days have 23 to 25 hours.
    """
    step = period * SECOND
    soon = (
        [index for index, (a, b) in enumerate(pairwise(rows.times), 1) if b - a < step] if 0 < period <= HOUR_S else []
    )
    if not soon:
        return rows
    flags = list(rows.flags)
    for index in soon:
        if not flags[index] & Quality.POWER_FAIL:
            flags[index] |= int(Quality.CLOCK_ADJUSTED)
    return rows._replace(flags=flags)


def _statuses(shape: Shape, rows: Sequence[tuple[Any, ...]]) -> list[int]:
    flags = [0] * len(rows)
    for position, spec in shape.status:
        shown = list(map(itemgetter(position), rows))
        known = {status: spec.flags(word_of(status)) for status in set(shown)}
        if any(known.values()):
            flags = [flag | known[status] for flag, status in zip(flags, shown, strict=True)]
    return flags


def _one_by_one(
    raw: bytes, shape: Shape, time: MeterTime, period: int, values: Sequence[tuple[Any, ...]]
) -> tuple[list[int | None], list[int]]:
    """Return time and quality of each row where clocks were doubtful or an hour came twice: rare, and slower."""
    daylight = next(((position, spec.dst_bit) for position, spec in shape.status if spec.dst_bit is not None), None)
    column = shape.columns[shape.clock]
    moments: list[Moment] = []
    for row, items in zip(axdr.decode_all(raw).value, values, strict=True):
        data = row.value[shape.clock]
        if data.tag is not Tag.NULL:
            bit = bool(word_of(items[daylight[0]]) >> daylight[1] & 1) if daylight else None
            moments.append(time.read(data.value, daylight=bit))
        elif not moments or column.null == "none":
            moments.append(Moment(None))
        else:
            step = period * SECOND if column.null == "clock+period" else 0
            us, late, doubtful = moments[-1]
            moments.append(Moment(None if us is None else us + step, None if late is None else late + step, doubtful))
    found = in_order(moments, period)
    return [us for us, _ in found], [int(Quality.CLOCK_SUSPECT) if doubt else 0 for _, doubt in found]


# --- blocks -----------------------------------------------------------------------------------------------------------


def to_blocks(
    rows: TimedRows, raw: bytes, shape: Shape, grid: Grid, time: MeterTime, device: str, received_at: int
) -> list[Block]:
    """Return one block for each row and kind, in the rows' order. `raw` is the buffer that the rows came from.

    Raises:
        FrameError: a column of numbers holds something else.

    """
    if not rows.times:
        return []
    came = list(zip(*rows.values, strict=True))
    columns = [_numbers(column, came[column.position], time) for column in shape.values]
    numbers = _number_types(raw, shape, columns)
    groups = []
    for kind in dict.fromkeys(column.kind for column in shape.values):
        chosen = [index for index, column in enumerate(shape.values) if column.kind is kind]
        layout = layout_of(
            kind, Source.PROFILE, grid.interval, tuple(_column(shape.values[i], numbers[i]) for i in chosen)
        )
        values = list(zip(*(columns[i] for i in chosen), strict=True))
        groups.append((layout, values, any(_is_odd(columns[i]) for i in chosen)))
    places = _places(rows, grid, time)
    if len(groups) == 1 and not groups[0][2]:  # most profiles: one block for each row, and no value missing
        layout, values, _ = groups[0]
        none: tuple[int, ...] = ()
        size = len(shape.values)
        return [
            Block(layout, device, measured_at, received_at, shown, slot, (flags,) * size if flags else none)
            for (measured_at, slot, flags), shown in zip(places, values, strict=True)
        ]
    blocks = []
    for index, (measured_at, slot, flags) in enumerate(places):
        for layout, values, odd in groups:
            shown: Sequence[float | None] = values[index]
            quality: Sequence[int] = (flags,) * len(shown) if flags else ()
            if odd:
                shown, quality = checked(shown, flags)
            blocks.append(Block(layout, device, measured_at, received_at, shown, slot, quality))
    return blocks


def _places(rows: TimedRows, grid: Grid, time: MeterTime) -> Iterable[tuple[int, int | None, int]]:
    """Return measured_at, slot and quality of each row, at once where every row lies on a boundary of the hour."""
    step = grid.interval * SECOND
    if not step or 900 % grid.interval or any(map(step.__rmod__, rows.times)):
        return [_place(at, flags, grid, time) for at, flags in zip(rows.times, rows.flags, strict=True)]
    ends = [at + step for at in rows.times] if grid.beginning else rows.times
    return zip(ends, ends, rows.flags, strict=True)


def _place(stamped: int, flags: int, grid: Grid, time: MeterTime) -> tuple[int, int | None, int]:
    """Return measured_at, slot and quality of a row. Rows that the meter makes when it likes have no slot to miss."""
    if not grid.interval:
        return stamped, stamped, flags
    boundary = time.on_grid(stamped, grid.interval)
    off = abs(stamped - boundary) > grid.tolerance
    if grid.beginning:
        shift = time.on_grid(boundary + grid.interval * SECOND, grid.interval) - boundary
        stamped, boundary = stamped + shift, boundary + shift
    return (stamped, None, flags | Quality.OFF_BOUNDARY) if off else (stamped, boundary, flags)


def _numbers(column: ValueColumn, values: Sequence[Any], time: MeterTime) -> Sequence[Any]:
    if column.time:
        return [_seconds(value, time) for value in values]
    kinds = set(map(type, values))
    if kinds == {int}:
        return values if max(values) <= LARGEST else [None if value > LARGEST else value for value in values]
    if kinds <= {int, bool, float, type(None)}:
        return [None if data is None else _plain(data) for data in values]
    raise FrameError(f"column {column.obis} of the profile holds no numbers")


def _plain(value: float) -> float | None:
    if isinstance(value, float):
        return value
    return None if value > LARGEST else int(value)


def _is_odd(column: Sequence[Any]) -> bool:
    """Tell whether a column has values that are none."""
    kinds = set(map(type, column))
    return type(None) in kinds or (float in kinds and not all(map(isfinite, column)))


def _seconds(value: object, time: MeterTime) -> int | None:
    """Return a date-time as whole seconds since 1970; None where it tells no moment (no maximum yet)."""
    if not isinstance(value, bytes):
        return None
    us = time.read(value).us if len(value) == 12 else None
    return None if us is None else us // SECOND


def _number_types(raw: bytes, shape: Shape, columns: Sequence[Sequence[Any]]) -> list[Number]:
    """Return the number type of each column: only where there are floats, the buffer is looked at once more."""
    with_floats = [index for index, column in enumerate(columns) if float in set(map(type, column))]
    found: list[Number] = ["int"] * len(columns)
    if with_floats:
        rows = axdr.decode_all(raw).value
        for index in with_floats:
            position = shape.values[index].position
            position += position >= shape.clock
            tags = {row.value[position].tag for row in rows} & set(_FLOATS)
            found[index] = "float64" if Tag.FLOAT64 in tags else "float32"
    return found


def _column(column: ValueColumn, number: Number) -> Column:
    return Column(column.obis, column.unit, column.scale, number)


# --- events -----------------------------------------------------------------------------------------------------------


def to_events(rows: TimedRows, shape: Shape, spec: EventsSpec, device: str, received_at: int) -> list[Event]:
    """Return one event for each row of an event log. The same row gives the same event however often it is read."""
    code_of: Callable[[Any], Any] | None = itemgetter(shape.codes[0]) if shape.codes else None
    found = []
    for time, row in zip(rows.times, rows.values, strict=True):
        detail = {"log": spec.name}
        code = None
        if code_of is not None:
            code = word_of(code_of(row))
            detail["code"] = str(code)
        for position, obis in shape.details:
            detail[obis] = _text(row[position])
        name = spec.event or spec.codes.get(code if code is not None else -1) or METER_OTHER.name
        event = event_of(name)
        found.append(Event(device, time, event.code, event.name, received_at, detail))
    return found


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii") if value.isascii() and value.decode("ascii").isprintable() else value.hex()
    return "" if value is None else str(value)
