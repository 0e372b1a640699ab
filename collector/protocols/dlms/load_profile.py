"""The buffer of a profile generic (class 7, attribute 2) as times and rows of values. Not scalers, not statuses.

A buffer is an array of structures that mostly look alike, row after row: the first row of each kind teaches its shape,
and all rows that follow with the same tags at the same places are taken at once, every tag of every row checked. What
is irregular goes through the general decoder row by row, with the same result.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, repeat
from typing import Any, Literal, NamedTuple

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Tag
from collector.protocols.dlms.buffer_shape import DELTAS, Shape, shape_of
from metering.errors import FrameError

SHORT_RUN = 16  # rows: after a shorter run of equal shape the next one is looked for among few rows, then more
DAY_S = 86_400
SECOND = 1_000_000

# What a null-data stands for. `clock+period`: in a clock column, the time of the row before and one capture period.
Null = Literal["previous", "none", "clock+period"]

_CLOCK_BYTES = 12


class BufferColumn(NamedTuple):
    """One capture object of the profile: whether it is the clock's time, and what null-data stands for in it."""

    clock: bool = False
    null: Null = "previous"


class Rows(NamedTuple):
    """The rows of a buffer in its order.

    `times` are UTC microseconds as `to_utc` gave them (None: not to be told); `values` have one item for each column
    that is no clock: int, float, bool, bytes, str, a tuple of `Data` for nested values, None for no value.
    """

    times: list[int | None]
    values: list[tuple[Any, ...]]


class BufferReader:
    """Reads buffers of one profile.

    `columns` are its capture objects in order, `period_s` its capture period (0: none), and `to_utc` turns the 12
    octets of a date-time into UTC microseconds, or None where they tell no time; the same octets always give the same.

    Raises:
        ValueError: more than one column is the clock.

    """

    def __init__(self, columns: Sequence[BufferColumn], period_s: int, to_utc: Callable[[bytes], int | None]) -> None:
        if sum(column.clock for column in columns) > 1:
            raise ValueError("a row has one time: more than one column is the clock")
        self._columns = tuple(columns)
        self._clocks = tuple(column.clock for column in columns)
        self._period_s = period_s
        self._to_utc = to_utc

    def rows(self, raw: bytes) -> Rows:
        """Return the rows of a buffer.

        Raises:
            FrameError: it is no array of structures with these columns, or it breaks off.

        """
        return self._read(raw, compiled=True)

    def rows_one_by_one(self, raw: bytes) -> Rows:
        """Return the same through the general decoder alone."""
        return self._read(raw, compiled=False)

    def _read(self, raw: bytes, *, compiled: bool) -> Rows:
        if raw[:1] != b"\x01":  # a compact-array among others
            return self._from_data(axdr.decode_all(raw))
        count, at = axdr.read_length(raw, 1)
        if count > len(raw) - at:
            raise FrameError(f"a buffer of {count} rows in {len(raw) - at} bytes")
        reading = _Reading(self._columns, self._period_s, self._to_utc)
        look = count
        done = 0
        while done < count:
            begin = at
            row, at = axdr.decode(raw, at)
            reading.take(row)
            done += 1
            if not compiled or done == count:
                continue
            shape = shape_of(raw, begin, at, self._clocks)
            if shape is None:
                continue
            found = shape.count(raw, at, min(count - done, look))
            if found:
                reading.take_run(shape, raw, at, found)
                at += found * shape.size
                done += found
            look = max(SHORT_RUN, 4 * found)
        if at != len(raw):
            raise FrameError(f"{len(raw) - at} bytes too many behind the buffer's {count} rows")
        return Rows(reading.times, reading.values)

    def _from_data(self, buffer: axdr.Data) -> Rows:
        if buffer.tag is not Tag.ARRAY:
            raise FrameError(f"a buffer is an array, not a {buffer.tag.name.lower()}")
        reading = _Reading(self._columns, self._period_s, self._to_utc)
        for row in buffer.value:
            reading.take(row)
        return Rows(reading.times, reading.values)


class _Reading:
    """What was read so far, and what the next null-data and deltas refer to."""

    def __init__(self, columns: tuple[BufferColumn, ...], period_s: int, to_utc: Callable[[bytes], int | None]) -> None:
        self.times: list[int | None] = []
        self.values: list[tuple[Any, ...]] = []
        self._columns = columns
        self._others = [column for column in columns if not column.clock]
        self._period_s = period_s
        self._to_utc = to_utc
        self._last: list[Any] = [None] * len(self._others)

    def take(self, row: axdr.Data) -> None:
        """Take one decoded row."""
        if row.tag is not Tag.STRUCTURE or len(row.value) != len(self._columns):
            raise FrameError(f"a row of the buffer is no structure of {len(self._columns)} columns")
        time: int | None = None
        values: list[Any] = []
        for column, data in zip(self._columns, row.value, strict=True):
            if column.clock:
                time = self._time(column, data)
            else:
                values.append(self._value(column, data, len(values)))
        self.times.append(time)
        self.values.append(tuple(values))

    def _time(self, column: BufferColumn, data: axdr.Data) -> int | None:
        if data.tag is Tag.NULL:
            before = self.times[-1] if self.times else None
            if before is None or column.null == "none":
                return None
            return before + self._period_s * SECOND if column.null == "clock+period" else before
        if data.tag not in (Tag.OCTET_STRING, Tag.DATE_TIME) or len(data.value) != _CLOCK_BYTES:
            raise FrameError("the clock column of the buffer holds no date-time")
        return self._to_utc(data.value)

    def _value(self, column: BufferColumn, data: axdr.Data, index: int) -> Any:  # noqa: ANN401 - as its type says
        value = data.value
        if data.tag is Tag.NULL:
            if column.null == "none":
                return None
            value = self._last[index]
        elif data.tag in DELTAS:
            value = _base(self._last[index]) + value
        self._last[index] = value
        return value

    # --- many at once ---------------------------------------------------------------------------------------------

    def take_run(self, shape: Shape, raw: bytes, at: int, count: int) -> None:
        """Take `count` rows of one shape that begin at `at`."""
        end = at + count * shape.size
        rows: list[tuple[Any, ...]] = list(shape.unpacker.iter_unpack(memoryview(raw)[at:end]))
        if shape.nulls or shape.deltas:
            rows = self._filled(shape, rows)
        self._run_of_times(shape, raw, at, count)
        self.values += rows
        self._last = [
            last if index in shape.nulls else new
            for index, (last, new) in enumerate(zip(self._last, rows[-1], strict=True))
        ]

    def _filled(self, shape: Shape, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the rows with the columns that were left out, and with sums instead of deltas."""
        came = zip(*rows, strict=True)
        columns: list[Any] = []
        for index, column in enumerate(self._others):
            if index in shape.nulls:
                columns.append(repeat(None if column.null == "none" else self._last[index], len(rows)))
            elif index in shape.deltas:
                sums = accumulate(next(came), initial=_base(self._last[index]))
                next(sums)
                columns.append(sums)
            else:
                columns.append(next(came))
        if not columns or len(shape.nulls) == len(columns):
            return [tuple(next(iter(column)) for column in columns)] * len(rows)
        return list(zip(*columns, strict=True))

    def _run_of_times(self, shape: Shape, raw: bytes, at: int, count: int) -> None:
        clocks = [column for column in self._columns if column.clock]
        if not clocks:
            self.times += repeat(None, count)
        elif shape.clock < 0:
            self._times_of_nulls(clocks[0], count)
        else:
            self._times_of_octets(raw, at + shape.clock, shape.size, count)

    def _times_of_nulls(self, column: BufferColumn, count: int) -> None:
        before = self.times[-1]
        if before is None or column.null == "none":
            self.times += repeat(None, count)
        elif column.null == "previous":
            self.times += repeat(before, count)
        else:
            step = self._period_s * SECOND
            self.times += range(before + step, before + step * (count + 1), step) if step else repeat(before, count)

    def _times_of_octets(self, raw: bytes, at: int, size: int, count: int) -> None:
        """Convert a column of date-times: at once where they go on by the capture period within a day."""
        done = 0
        while done < count:
            begin = at + done * size
            regular = self._regular(raw, begin, size, count - done)
            if regular:
                done += regular
                continue
            # Not regular for the rest of a day at most: a gap, a clock that was set, summer time.
            rows = min(count - done, max(1, DAY_S // self._period_s) if self._period_s else count)
            self.times += [self._to_utc(raw[o : o + _CLOCK_BYTES]) for o in range(begin, begin + rows * size, size)]
            done += rows

    def _regular(self, raw: bytes, at: int, size: int, most: int) -> int:
        """Take the rows up to the end of the day if each is one period after the one before; return how many."""
        if not self._period_s:
            return 0
        first = raw[at : at + _CLOCK_BYTES]
        steps = _steps(*first[5:8], self._period_s)
        count = min(most, len(steps[0]))
        end = (count - 1) * size + 1
        for place in range(_CLOCK_BYTES):
            column = raw[at + place : at + place + end : size]
            moving = steps[place - 5][:count] if 5 <= place < 8 else first[place : place + 1] * count
            if column != moving:
                return 0
        begin = self._to_utc(first)
        step = self._period_s * SECOND
        if begin is None:
            return 0
        last = at + (count - 1) * size
        if self._to_utc(raw[last : last + _CLOCK_BYTES]) != begin + (count - 1) * step:
            return 0
        self.times += range(begin, begin + count * step, step)
        return count


def _base(last: Any) -> Any:  # noqa: ANN401 - a number, checked here
    if not isinstance(last, int) or isinstance(last, bool):
        raise FrameError("a delta in the buffer without a number before it")
    return last


@lru_cache(maxsize=256)
def _steps(hour: int, minute: int, second: int, period_s: int) -> tuple[bytes, bytes, bytes]:
    """Return hours, minutes and seconds of the rows from this time of day on to the day's end."""
    if hour > 23 or minute > 59 or second > 59:
        return b"", b"", b""
    times = range(3600 * hour + 60 * minute + second, DAY_S, period_s)
    return bytes(t // 3600 for t in times), bytes(t // 60 % 60 for t in times), bytes(t % 60 for t in times)
