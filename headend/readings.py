"""Questions about readings and their answers in pages: stored or derived, by point or device. No HTTP here."""

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from headend import completeness, derive
from headend.completeness import Completeness, Wanted
from headend.rows import Row, from_moment, rows_of
from headend.spans import Span, spans_of_device, spans_of_point
from metering.errors import StorageError
from metering.model import SECOND, Kind, Source
from metering.ports import ReadingsQuery, ReadingsStore, Registry

REMEMBERED = 256  # completeness of the ranges that are being paged through
REMEMBERED_S = 60


class NotFoundError(Exception):
    """There is no such thing, or it is out of the asker's sight: the two are not told apart."""


class BadRequestError(Exception):
    """A parameter is wrong. `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Question(msgspec.Struct, frozen=True):
    """Readings of one meter point or one device. Intervals: start < end of interval <= end; instants: [start, end)."""

    point: str
    device: str
    start: int
    end: int
    wanted: Wanted
    versions: bool = False

    @property
    def derived(self) -> bool:
        """Tell whether consumption derived from register snapshots is asked for."""
        return self.wanted.sources == (Source.DERIVED,)

    def check(self) -> None:
        """Raise `BadRequestError` where the parameters contradict each other."""
        if self.end < self.start:
            raise BadRequestError("to", "lies before from")
        if Source.DERIVED in self.wanted.sources:
            if not self.derived:
                raise BadRequestError("source", "derived consumption is computed, so it is asked for alone")
            if self.wanted.kinds not in ((), (Kind.INTERVAL,)):
                raise BadRequestError("kind", "what is derived from register snapshots is of kind interval")


def pack_cursor(about: object, *position: str | int) -> str:
    """Return an opaque cursor that is good for this question alone."""
    raw = msgspec.msgpack.encode((_digest(about), *position))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def range_of_cursor(cursor: str) -> tuple[int, int] | None:
    """Return the range that a cursor was made for, so that a default such as "until now" stays where it was."""
    try:
        _, start, end, *_ = _decoded(cursor)
    except ValueError:
        return None
    return (start, end) if isinstance(start, int) and isinstance(end, int) else None


def cursor_or_storage(error: StorageError, after: str) -> Exception:
    """Return what a store's refusal means: a forged place in a cursor is the asker's fault."""
    return error if error.retry or not after else BadRequestError("cursor", "is not a cursor of this API")


def unpack_cursor(cursor: str, about: object, shape: tuple[type, ...]) -> tuple[str | int, ...]:
    """Return the position in a cursor; `BadRequestError` where it is not one of this question."""
    try:
        found, *position = _decoded(cursor)
    except ValueError as error:
        raise BadRequestError("cursor", "is not a cursor of this API") from error
    if found != _digest(about) or tuple(map(type, position)) != shape:
        raise BadRequestError("cursor", "belongs to another question; repeat the one that it came with")
    return tuple(position)


class ReadingsDesk:
    """Answers questions from a store and a registry. Blocking; safe in several threads."""

    def __init__(
        self, registry: Registry, store: ReadingsStore, moduli: derive.Moduli, clock: Callable[[], int]
    ) -> None:
        self._registry = registry
        self._store = store
        self._moduli = moduli
        self._clock = clock
        self._known: OrderedDict[str, tuple[int, Completeness]] = OrderedDict()
        self._lock = threading.Lock()

    def page(self, question: Question, regions: Sequence[str], limit: int, cursor: str = "") -> tuple[list[Row], str]:
        """Return at most `limit` rows and the cursor of the next page, empty on the last one.

        Stored readings come in the order of (measured_at, obis, kind, source), derived ones by (obis, interval end).
        """
        question.check()
        if question.derived:
            return self._derived(question, regions, limit, cursor)
        return self._stored(question, regions, limit, cursor)

    def completeness(self, question: Question, regions: Sequence[str], *, again: bool = False) -> Completeness:
        """Return how complete the whole range is. `again`: while it is paged through, the last answer will do."""
        question.check()
        now = self._clock()
        key = _digest((question, regions))
        with self._lock:
            known = self._known.get(key)
        if again and known is not None and now - known[0] < REMEMBERED_S * SECOND:
            return known[1]
        spans = self._spans(question, regions)
        if question.derived:
            found = completeness.of_derived(self._store, spans, self._registers(question, spans), now)
        else:
            found = completeness.of_stored(self._store, spans, question.wanted, now)
        with self._lock:
            self._known[key] = now, found
            self._known.move_to_end(key)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _spans(self, question: Question, regions: Sequence[str], before_s: int = 0, after_s: int = 0) -> list[Span]:
        start, end = question.start - before_s * SECOND, question.end + after_s * SECOND
        if question.point:
            return spans_of_point(self._registry, question.point, start, end)
        return spans_of_device(self._registry, question.device, start, end, regions)

    def _stored(self, question: Question, regions: Sequence[str], limit: int, cursor: str) -> tuple[list[Row], str]:
        since, after = question.start, ""
        if cursor:
            _, _, since, after = unpack_cursor(cursor, question, (int, int, int, str))  # type: ignore[assignment]  # by its shape
        rows: list[Row] = []
        wanted = question.wanted
        for span in self._spans(question, regions):
            if span.start < since:
                continue
            here = after if span.start == since else ""
            if len(rows) >= limit:  # the page is full just where the last device left
                return rows, pack_cursor(question, question.start, question.end, span.start, "")
            while True:
                query = ReadingsQuery(
                    span.device,
                    span.start,
                    span.end,
                    wanted.obis,
                    wanted.kinds,
                    wanted.sources,
                    versions=question.versions,
                    limit=limit - len(rows),
                    after=here,
                )
                try:
                    page = self._store.readings(query)
                except StorageError as error:
                    raise cursor_or_storage(error, here) from error
                rows.extend(rows_of(page.readings, span.installation, self.serial(span)))
                here = page.cursor
                if not here:
                    break
                if len(rows) >= limit:
                    return rows, pack_cursor(question, question.start, question.end, span.start, here)
        return rows, ""

    def _derived(self, question: Question, regions: Sequence[str], limit: int, cursor: str) -> tuple[list[Row], str]:
        first, since = "", question.start
        if cursor:
            _, _, first, since = unpack_cursor(cursor, question, (int, int, str, int))  # type: ignore[assignment]  # by its shape
        spans = self._spans(question, regions, derive.LOOKBACK_S[-1], derive.LATE_S)
        rows: list[Row] = []
        for obis in self._registers(question, spans):
            if obis < first:
                continue
            start = since if obis == first else question.start
            found = derive.Deriver(self._store, obis, self._moduli).rows(spans, self.serial, start, question.end)
            rows.extend(islice(found, limit - len(rows)))
            if len(rows) >= limit:
                since = from_moment(rows[-1].measured_at)
                return rows, pack_cursor(question, question.start, question.end, obis, since)
        return rows, ""

    def _registers(self, question: Question, spans: Sequence[Span]) -> list[str]:
        if not question.wanted.obis:
            return derive.registers(self._store, spans)
        found = {derive.register_obis(obis) for obis in question.wanted.obis}
        return sorted(obis for obis in found if obis is not None)

    def serial(self, span: Span) -> str:
        """Return the serial number of a span's device: the installation's, which knew it then."""
        if span.installation is not None:
            return span.installation.serial
        device = self._registry.device(span.device)
        return device.serial if device is not None else ""


def _decoded(cursor: str) -> list[str | int]:
    raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    return msgspec.msgpack.decode(raw, type=list[str | int])


def _digest(about: object) -> str:
    return hashlib.blake2b(msgspec.msgpack.encode(about), digest_size=8).hexdigest()
