"""Interval consumption derived from register snapshots when it is asked for. Never stored, never valid for billing.

The consumption of an interval is the register at its end less the register at its start. Where boundaries are missing
the next snapshot closes one longer interval, marked incomplete: the interval is lost, its energy is kept. OBIS: the
running total `1-0:1.8.0*255` (value group D = 8) gives `1-0:1.29.0*255` (D = 29, time integral 5: since the start of
the recording interval, IEC 62056-6-1).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from headend.rows import EXACT, Row, judge, moment, multiplier
from headend.spans import Span
from metering.model import SECOND, Expectation, Kind, Source
from metering.obis import canonical_obis, is_cumulative, parse_obis
from metering.ports import Reading, ReadingsQuery, ReadingsStore
from metering.quality import Quality
from metering.values import to_decimal

OFF_BOUNDARY_S = 10  # a snapshot further from its slot than this marks what is derived from it
LOOKBACK_S = (3_600, 86_400, 8 * 86_400)  # how far before the range the opening snapshot is looked for, step by step
LATE_S = 86_400  # how long after its slot a snapshot may come: the longest interval
PAGE = 2_000

Moduli = Mapping[str, Mapping[str, int]]  # device -> register's OBIS -> stored value at which it turns over to zero

_USELESS = Quality.NOT_AVAILABLE | Quality.NOT_A_NUMBER | Quality.OUT_OF_RANGE | Quality.BACKWARDS
_INHERITED = (
    Quality.CLOCK_SUSPECT | Quality.OFF_BOUNDARY | Quality.ESTIMATED | Quality.POWER_FAIL | Quality.CLOCK_ADJUSTED
)
_RANKED = (Source.PROFILE, Source.POLL, Source.PUSH)


class Snapshot(NamedTuple):
    """A register at a boundary, exact."""

    slot: int
    value: Decimal
    quality: Quality
    unit: str
    scale: int
    received_at: int
    interval: int


class Piece(NamedTuple):
    """Consumption so far in an interval: at the register and in primary values. None: not to be known."""

    value: Decimal | None
    primary: Decimal | None
    flags: Quality


_NOTHING = Piece(Decimal(0), Decimal(0), Quality.VALID)


def interval_obis(register: str) -> str:
    """Return the code of the consumption per interval of a running total: D = 8 becomes 29."""
    a, b, c, _, e, f = parse_obis(register)
    return f"{a}-{b}:{c}.29.{e}*{f}"


def register_obis(interval: str) -> str | None:
    """Return the running total that a code with D = 29 is derived from; None for any other code."""
    a, b, c, d, e, f = parse_obis(interval)
    return f"{a}-{b}:{c}.8.{e}*{f}" if d == 29 else None


def registers(store: ReadingsStore, spans: Sequence[Span]) -> list[str]:
    """Return the running totals of these devices in order: those that were promised, and those that came."""
    devices = sorted({span.device for span in spans})
    promised = {obis for device in devices for each in store.expectations(device) for obis in each.obis}
    came = {each.channel.column.obis for each in store.latest(devices, (Kind.REGISTER,))}
    return sorted(obis for obis in promised | came if is_cumulative(obis))


class Deriver:
    """Derives one running total's consumption over the spans of a question: start < interval end <= end."""

    def __init__(self, store: ReadingsStore, obis: str, moduli: Moduli) -> None:
        self._store = store
        self._obis = obis
        self._moduli = moduli
        self._since: int | None = None  # where the open interval began
        self._carry = _NOTHING  # what devices that have left used in it
        self._last: Snapshot | None = None  # the register when it was last seen on the present device
        self._start_flags = Quality.VALID
        self._promises: list[Expectation] = []  # to read it on the present device

    def rows(self, spans: Sequence[Span], serial: Callable[[Span], str], start: int, end: int) -> Iterator[Row]:
        """Yield the intervals that end in the range, in order.

        `spans` reach beyond the range: `LOOKBACK_S[-1]` before it, so that the interval that the range cuts has its
        opening snapshot, and `LATE_S` after it, since a snapshot is taken at or after its slot.
        """
        for span in self._from_opening(spans, start):
            self._promises = _promises(self._store.expectations(span.device), self._obis)
            self._arrive(span)
            for snapshot in self._snapshots(span, span.end):
                if snapshot.slot > end:
                    return
                row = self._close(span, snapshot, serial(span))
                if row is not None and snapshot.slot > start:
                    yield row
            self._leave(span)

    def _from_opening(self, spans: Sequence[Span], start: int) -> list[Span]:
        """Return the spans from the last snapshot before the range on, or from as far as is looked."""
        clipped: list[Span] = []
        for reach in LOOKBACK_S:
            begin = start - reach * SECOND
            clipped = [span._replace(start=max(span.start, begin)) for span in spans if span.end > begin]
            for span in clipped:
                self._promises = _promises(self._store.expectations(span.device), self._obis)
                if any(each.slot <= start for each in self._snapshots(span, min(span.end, start + SECOND))):
                    return clipped
        return clipped

    def _arrive(self, span: Span) -> None:
        self._last = None
        here = span.installation
        if here is None or here.valid_from != span.start:
            return
        value = _named(here.initial, self._obis)
        if value is not None:
            self._last = Snapshot(here.valid_from, value, Quality.VALID, "", 0, 0, 0)
            if self._since is None:
                self._since = here.valid_from
        elif self._since is not None:
            self._carry = Piece(None, None, self._carry.flags | Quality.INCOMPLETE)

    def _leave(self, span: Span) -> None:
        here = span.installation
        if self._since is None:
            return
        removed = _named(here.removal, self._obis) if here is not None and here.valid_to == span.end else None
        if removed is None or self._last is None:
            self._carry = Piece(None, None, self._carry.flags | Quality.INCOMPLETE)
            return
        end = self._last._replace(value=removed, quality=Quality.VALID)
        self._carry = _add(self._carry, self._difference(span, end))

    def _close(self, span: Span, snapshot: Snapshot, serial: str) -> Row | None:
        row = None
        if self._since is not None and self._since < snapshot.slot:
            if self._last is not None:
                piece = _add(self._carry, self._difference(span, snapshot))
            else:
                piece = Piece(None, None, self._carry.flags | Quality.INCOMPLETE)
            flags = piece.flags | Quality.DERIVED | (self._start_flags | snapshot.quality) & _INHERITED
            if snapshot.slot - self._since != _interval_on(self._promises, snapshot) * SECOND:
                flags |= Quality.INCOMPLETE
            row = self._row(span, snapshot, serial, piece._replace(flags=flags))
        self._since, self._last, self._carry = snapshot.slot, snapshot, _NOTHING
        self._start_flags = snapshot.quality
        return row

    def _difference(self, span: Span, snapshot: Snapshot) -> Piece:
        """Return what ran through the present device since `_last`; never a negative amount."""
        if self._last is None:
            return Piece(None, None, Quality.INCOMPLETE)
        amount = EXACT.subtract(snapshot.value, self._last.value)
        flags = snapshot.quality & (Quality.ROLLOVER | Quality.RESTARTED)
        if flags & Quality.RESTARTED:
            return Piece(None, None, flags)
        if amount < 0:
            modulus = self._moduli.get(span.device, {}).get(self._obis)
            if not flags & Quality.ROLLOVER or modulus is None:
                return Piece(None, None, flags | (Quality.INCOMPLETE if flags else Quality.BACKWARDS))
            amount = EXACT.add(amount, Decimal(modulus).scaleb(snapshot.scale, EXACT))
        factor = multiplier(span.installation, snapshot.unit) if span.installation is not None else None
        return Piece(amount, amount if factor is None else EXACT.multiply(amount, factor), flags)

    def _row(self, span: Span, snapshot: Snapshot, serial: str, piece: Piece) -> Row:
        end = moment(snapshot.slot)
        since = self._since if self._since is not None else snapshot.slot
        return Row(
            span.installation.point if span.installation is not None else None,
            span.device,
            serial,
            interval_obis(self._obis),
            Kind.INTERVAL,
            Source.DERIVED,
            (snapshot.slot - since) // SECOND,
            snapshot.unit,
            None if piece.value is None else f"{piece.value:f}",
            None if piece.primary is None or span.installation is None else f"{piece.primary:f}",
            end,
            end,
            moment(since),
            end,
            moment(snapshot.received_at),
            judge(int(piece.flags)),
            0,
            current=True,
        )

    def _snapshots(self, span: Span, end: int) -> Iterator[Snapshot]:
        """Yield one snapshot for each slot, the nearest to it; what is worthless counts as not taken.

        The row of the meter's own profile lies on its slot and comes before a poll; where there is none the poll
        stands in. A source that shows another unit than the first one of the range is left out.
        """
        sources = tuple(sorted({each.source for each in self._promises}, key=_RANKED.index)) or _RANKED
        best: tuple[int, Snapshot] | None = None
        unit: str | None = None
        for reading in _pages(self._store, span, self._obis, sources, end):
            found = _snapshot(reading)
            if found is None or (best is not None and found.slot < best[1].slot):
                continue
            unit = found.unit if unit is None else unit
            if found.unit != unit:
                continue
            off = abs(reading.measured_at - found.slot)
            if off > OFF_BOUNDARY_S * SECOND:
                found = found._replace(quality=found.quality | Quality.OFF_BOUNDARY)
            if best is not None and found.slot > best[1].slot:
                yield best[1]
                best = None
            if best is None or off < best[0]:
                best = off, found
        if best is not None:
            yield best[1]


def _pages(store: ReadingsStore, span: Span, obis: str, sources: tuple[Source, ...], end: int) -> Iterator[Reading]:
    after = ""
    while span.start < end:
        page = store.readings(
            ReadingsQuery(span.device, span.start, end, (obis,), (Kind.REGISTER,), sources, limit=PAGE, after=after)
        )
        yield from page.readings
        after = page.cursor
        if not after:
            return


def _snapshot(reading: Reading) -> Snapshot | None:
    column = reading.channel.column
    if reading.slot is None or reading.value is None or reading.quality & _USELESS:
        return None
    if not reading.channel.interval:  # a settlement, at whatever instant the meter made it
        return None
    value = to_decimal(reading.value, column.scale, column.number)
    return Snapshot(
        reading.slot,
        value,
        Quality(reading.quality),
        column.unit,
        column.scale,
        reading.received_at,
        reading.channel.interval,
    )


def _promises(expectations: Sequence[Expectation], obis: str) -> list[Expectation]:
    """Return the promises to read a running total that count."""
    return [
        each for each in expectations if each.kind is Kind.REGISTER and each.source in _RANKED and obis in each.obis
    ]


def _interval_on(promises: Sequence[Expectation], snapshot: Snapshot) -> int:
    """Return the interval in seconds that was promised when a snapshot was taken."""
    return min(
        (
            each.interval
            for each in promises
            if each.since <= snapshot.slot and (each.until is None or snapshot.slot <= each.until)
        ),
        default=snapshot.interval,
    )


def _add(one: Piece, other: Piece) -> Piece:
    flags = one.flags | other.flags
    if one.value is None or other.value is None or one.primary is None or other.primary is None:
        return Piece(None, None, flags)
    return Piece(EXACT.add(one.value, other.value), EXACT.add(one.primary, other.primary), flags)


def _named(values: Mapping[str, str], obis: str) -> Decimal | None:
    for name, value in values.items():
        if canonical_obis(name) == obis:
            return Decimal(value)
    return None
