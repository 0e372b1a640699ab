"""One profile generic (class 7) of a DLMS meter: its columns, and its rows by range or by number. Makes no blocks."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from collector.dlms_tables import ColumnSpec
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_rows import TimedRows, decode_rows, mark_adjusted
from collector.drivers.dlms_shape import (
    ScalerUnit,
    Shape,
    make_shape,
    parse_objects,
    parse_scaler_unit,
    scaler_of,
)
from collector.drivers.dlms_talk import DlmsTalk, Timed
from collector.protocols.dlms import axdr
from collector.protocols.dlms.acse import Conformance
from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.load_profile import Null
from collector.protocols.dlms.references import (
    Access,
    Attribute,
    CaptureObject,
    DataAccessResult,
    entry_access,
    range_access,
)
from metering.errors import FrameError, RefusedError
from metering.model import SECOND

PROFILE_CLASS = 7
BUFFER, OBJECTS, PERIOD, SORT_METHOD, IN_USE, ENTRIES = 2, 3, 4, 5, 7, 8
NEWEST_FIRST = 2  # sort_method LIFO
MAX_STEPS = 24  # single rows that are looked at to find the first one after a time: 2^24 entries
MAX_PERIOD_S = 366 * 86400
# What a meter answers that does not read this way: by range, or by number.
NOT_SO = frozenset(
    {
        DataAccessResult.READ_WRITE_DENIED,
        DataAccessResult.OBJECT_CLASS_INCONSISTENT,
        DataAccessResult.TYPE_UNMATCHED,
        DataAccessResult.SCOPE_OF_ACCESS_VIOLATED,
        DataAccessResult.OTHER_REASON,
    }
)

logger = structlog.get_logger(__name__)


class BufferSpec(NamedTuple):
    """What the model's file says of a profile or an event log."""

    name: str
    obis: str
    columns: tuple[ColumnSpec, ...]
    null: Null
    access: str  # range, entry, all
    period: int = 0
    range_object: str | None = None
    scaler_profile: str | None = None
    scaled: bool = True  # False: an event log, whose columns need no units


class Piece(NamedTuple):
    """Rows, the bytes that they came in, and when they were there (us)."""

    rows: TimedRows
    raw: bytes
    ended_at: int


class Buffer:
    """A meter's profile. `learn` comes first in each association: rows do not tell by themselves what they are of."""

    def __init__(self, driver: DlmsDriver, spec: BufferSpec) -> None:
        self._driver = driver
        self.spec = spec
        self.shape: Shape | None = None
        self.period = spec.period
        self.entries = 0
        self._sort = 1
        self._access = spec.access
        self._restricting: CaptureObject | None = None
        # What the meter said that `shape` was made from: capture objects, and numbers and scalers.
        self._raw = b""
        self._objects: tuple[CaptureObject, ...] = ()
        self._said: tuple[object, object] = (None, None)

    # --- what it is -------------------------------------------------------------------------------------------------

    async def learn(self, talk: DlmsTalk) -> bool:
        """Read capture objects, period, size, order and scalers, once in each association; tell whether they changed.

        Raises:
            RefusedError: the meter has no such profile.
            FrameError: its capture objects cannot be.

        """
        if self in talk.learned:
            return False
        raw = (await talk.run(talk.session.get_raw(self._at(OBJECTS)))).value
        objects = self._objects if raw == self._raw else parse_objects(axdr.decode_all(raw))
        scalers, answers = await self._scalers(talk, objects)
        if DataAccessResult.TEMPORARY_FAILURE in answers:  # what the file says instead may be another period
            failure = DataAccessResult.TEMPORARY_FAILURE
            raise RefusedError(f"{self.spec.obis}: {failure.words}", code=failure)
        news = self.shape is None or (raw, answers, scalers) != (self._raw, *self._said)
        if news:
            period, entries, sort = answers
            self.period = _number(period, MAX_PERIOD_S) or self.spec.period
            self.entries = _number(entries, 0xFFFFFFFF)
            self._sort = _number(sort, 0xFF) or 1
            self._make(objects, scalers)
            self._raw, self._objects, self._said = raw, objects, (answers, scalers)
        talk.learned.add(self)
        return news

    def _make(self, objects: Sequence[CaptureObject], scalers: Mapping[Attribute, ScalerUnit]) -> None:
        shape = make_shape(objects, self.spec.columns, scalers, self.spec.null, period=self.period)
        for reason in shape.skipped if self.spec.scaled else ():
            logger.info("a column is not kept", meter=self._driver.device, profile=self.spec.name, column=reason)
        clock = objects[shape.clock]
        self._restricting = next((o for o in objects if o.obis == self.spec.range_object), clock)
        self._access = self.spec.access
        if self.shape not in (None, shape):
            logger.warning("the columns of a profile changed", meter=self._driver.device, profile=self.spec.name)
        self.shape = shape

    def _at(self, attribute: int) -> Attribute:
        return Attribute(PROFILE_CLASS, self.spec.obis, attribute)

    async def _number(self, talk: DlmsTalk, attribute: int, limit: int) -> int:
        """Return one of the profile's own numbers; 0 where the meter does not tell it."""
        return _number(await talk.get(self._at(attribute)), limit)

    async def _scalers(
        self, talk: DlmsTalk, objects: Sequence[CaptureObject]
    ) -> tuple[dict[Attribute, ScalerUnit], list[Data | DataAccessResult]]:
        """Return scalers, and what the meter says of period, entries and order: one request where it takes lists."""
        numbers = [self._at(attribute) for attribute in (PERIOD, ENTRIES, SORT_METHOD)]
        if not self.spec.scaled:
            return {}, await talk.get_many(numbers, self._driver.profile)
        said = {(spec.obis, spec.attribute) for spec in self.spec.columns if spec.role not in {"value", "time"}}
        places = [
            place
            for item in objects
            if (item.obis, item.attribute) not in said and (place := scaler_of(item)) is not None
        ]
        found = {} if self.spec.scaler_profile is None else await self._scaler_profile(talk, self.spec.scaler_profile)
        missing = [place for place in places if place not in found]
        answers = await self._driver.learn_scalers(talk, missing, numbers)
        known = self._driver.scalers
        return found | {place: scaler for place in missing if (scaler := known.get(place)) is not None}, answers

    async def _scaler_profile(self, talk: DlmsTalk, obis: str) -> dict[Attribute, ScalerUnit]:
        """Return the scalers that stand in a profile of their own: one row of scaler_units. Empty: there is none."""
        answers = [await talk.get(Attribute(PROFILE_CLASS, obis, attribute)) for attribute in (OBJECTS, BUFFER)]
        objects, buffer = answers
        if isinstance(objects, DataAccessResult) or isinstance(buffer, DataAccessResult):
            return {}
        rows: tuple[Data, ...] = buffer.value if buffer.tag is Tag.ARRAY else ()
        places = parse_objects(objects)
        if not rows or rows[-1].tag is not Tag.STRUCTURE or len(rows[-1].value) != len(places):
            raise FrameError(f"{obis} is no profile of scalers")
        found = {}
        for item, data in zip(places, rows[-1].value, strict=True):
            if data.tag is Tag.STRUCTURE:
                found[Attribute(item.class_id, item.obis, item.attribute)] = parse_scaler_unit(data)
        return found

    # --- its rows ---------------------------------------------------------------------------------------------------

    async def between(self, talk: DlmsTalk, start: int, end: int, piece_rows: int, into: list[Piece]) -> None:
        """Append the rows with start < stamp <= end (UTC us as the meter stamps them), in pieces, oldest first.

        Where the meter does not read by range they are found by number.

        Raises `MeterError`; the pieces before it are in `into`.
        """
        selective = bool(talk.session.negotiated.conformance & Conformance.SELECTIVE_ACCESS)
        if self._access == "all" or not selective:
            into.append(_cut(await self._piece(talk, None), start, end))
        elif self._access == "entry":
            await self._by_number(talk, start, end, piece_rows, into)
        else:
            await self._by_range(talk, start, end, piece_rows, into)

    async def _by_range(self, talk: DlmsTalk, start: int, end: int, piece_rows: int, into: list[Piece]) -> None:
        try:
            piece = await self._piece(talk, self._range(start, end))
        except RefusedError as error:
            if type(error) is not RefusedError or error.code not in NOT_SO:
                raise
        else:
            into.append(_cut(piece, start, end))
            return
        # Some meters refuse a range that is only empty: it is asked for again where rows were there after all.
        before = len(into)
        await self._by_number(talk, start, end, piece_rows, into)
        if any(piece.rows.times for piece in into[before:]):
            self._access = "entry"
            logger.info("the profile is read by number", meter=self._driver.device, profile=self.spec.name)

    def _range(self, start: int, end: int) -> Access:
        restricting = self._restricting
        if restricting is None:
            raise ValueError("learn comes first")
        # Both limits are inclusive and clocks count seconds; what comes too much is cut off.
        limit = self._driver.time.limit
        return range_access(restricting, limit(start + SECOND), limit(end))

    async def _piece(self, talk: DlmsTalk, access: Access | None) -> Piece:
        turnaround_s = self._driver.profile.profile_turnaround
        timed: Timed[bytes] = await talk.run(talk.session.get_raw(self._at(BUFFER), access), turnaround_s=turnaround_s)
        return Piece(self._decode(timed.value), timed.value, timed.ended_at)

    def _decode(self, raw: bytes) -> TimedRows:
        if self.shape is None:
            raise ValueError("learn comes first")
        rows = decode_rows(raw, self.shape, self._driver.time, self.period)
        if rows.untold:
            logger.warning(
                "rows of a profile tell no time", meter=self._driver.device, profile=self.spec.name, rows=rows.untold
            )
        if self._sort == NEWEST_FIRST and len(rows.times) > 1 and rows.times[0] > rows.times[-1]:
            rows = TimedRows(rows.times[::-1], rows.flags[::-1], rows.values[::-1], rows.untold)
        return mark_adjusted(rows, self.period)

    async def _by_number(self, talk: DlmsTalk, start: int, end: int, piece_rows: int, into: list[Piece]) -> None:
        count = await self._number(talk, IN_USE, 0xFFFFFFFF) or self.entries
        if not count:
            return
        first = await self._first_after(talk, start, count)
        while first <= count:
            last = min(count, first + piece_rows - 1)
            piece = await self._entries(talk, first, last, count)
            into.append(_cut(piece, start, end))
            if piece.rows.times and max(piece.rows.times) >= end:
                return
            first = last + 1

    async def _entries(self, talk: DlmsTalk, first: int, last: int, count: int) -> Piece:
        """Return the rows with these numbers, counted from the oldest, whatever the meter counts from."""
        if self._sort == NEWEST_FIRST:
            first, last = count + 1 - last, count + 1 - first
        return await self._piece(talk, entry_access(first, last))

    async def _first_after(self, talk: DlmsTalk, start: int, count: int) -> int:
        """Return the number, from the oldest, of the first row after `start`; one more than there are where none is.

        Rows that are missing make a row older than counting back by the period says: that is where it begins to look.
        """
        newest = await self._time_of(talk, count, count)
        if newest is None:
            return 1
        if newest <= start:
            return count + 1
        low, high = 0, count  # row `low` is not after start, row `high` is
        if self.period:
            guess = count - (newest - start) // (self.period * SECOND) - 1
            low, high = await self._near(talk, start, count, guess)
        for _ in range(MAX_STEPS):
            if high - low <= 1:
                break
            middle = (low + high) // 2
            at = await self._time_of(talk, middle, count)
            if at is None:
                break
            low, high = (low, middle) if at > start else (middle, high)
        return low + 1

    async def _near(self, talk: DlmsTalk, start: int, count: int, guess: int) -> tuple[int, int]:
        """Return a row that is not after `start` and one that is, as close to each other as a few looks make them."""
        at = await self._time_of(talk, guess, count) if guess > 0 else 0
        if at is None or at > start:  # short intervals: the clock was set in between
            return 0, count
        low, step = max(0, guess), 1
        while low + step < count:
            at = await self._time_of(talk, low + step, count)
            if at is None or at > start:
                return low, low + step
            low, step = low + step, step * 2
        return low, count

    async def _time_of(self, talk: DlmsTalk, number: int, count: int) -> int | None:
        rows = (await self._entries(talk, number, number, count)).rows
        return rows.times[-1] if rows.times else None


def _number(answer: Data | DataAccessResult, limit: int) -> int:
    value = None if isinstance(answer, DataAccessResult) else answer.value
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= limit else 0


def _cut(piece: Piece, start: int, end: int) -> Piece:
    """Return the rows of a piece with start < stamp <= end."""
    rows = piece.rows
    keep = [index for index, stamp in enumerate(rows.times) if start < stamp <= end]
    if len(keep) == len(rows.times):
        return piece
    return piece._replace(
        rows=TimedRows(
            [rows.times[i] for i in keep], [rows.flags[i] for i in keep], [rows.values[i] for i in keep], rows.untold
        )
    )
