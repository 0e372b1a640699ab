"""Answers about collection: figures by gateway, region, device or meter point, and gaps. It reads the state alone.

Blocking; safe in several threads.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from headend.kpi.figures import BUCKET, DAY, Figures
from headend.kpi.views import CollectionRow, GapRow, IntervalFigures, gap_row, offset_s, rate, seq_gap_row
from headend.measures import Measure
from headend.readings import BadRequestError, pack_cursor, unpack_cursor
from headend.registry import EVERYWHERE, covers
from headend.sight import Sight
from headend.state.collection import CollectionDays
from headend.state.collection_report import ReportQuery, ReportRow, report
from headend.state.gaps import Gap, Gaps, GapsQuery, SeqGap, SeqGaps
from headend.state.store import State
from headend.tokens import Grant
from metering import timing
from metering.ports import Registry
from metering.timing import to_rfc3339

MAX_DAYS = 100  # of one question
MAX_INTERVAL_DAYS = 31  # of one that goes by quarter hours, and
MAX_INTERVAL_ROWS = 100
GAP_PAGES = 50  # pages looked through for one answer, however few gaps on them are for the asker
SHOWN_GATEWAYS = 1_000  # that have numbers of their own for the monitoring
MEASURES_S = 60.0  # so long the same numbers are given

_Place = tuple[int, str, str]  # start, device and profile of a gap

__all__ = ["CollectionDesk", "CollectionRow", "GapRow", "ReportQuery"]


class CollectionDesk:
    """Questions about one head-end or site. `missing` are seqs still to come, `offsets` the gateways' clocks (s)."""

    def __init__(
        self,
        state: State,
        registry: Registry,
        missing: Callable[[], Iterable[SeqGap]] = tuple,
        offsets: Callable[[], Mapping[str, float]] = dict,
        clock: Callable[[], int] = timing.now,
    ) -> None:
        self._state = state
        self._days = CollectionDays(state)
        self._gaps = Gaps(state)
        self._seq_gaps = SeqGaps(state)
        self._registry = registry
        self._missing = missing
        self._offsets = offsets
        self._clock = clock
        self._measured: tuple[float, list[Measure]] = (0.0, [])
        self._measuring = threading.Lock()

    def judged_until(self) -> int:
        """Return the instant before which all days are judged; 0 before the first is."""
        progress = self._days.progress()
        return progress.day * DAY if progress is not None else 0

    def figures(self, grant: Grant, query: ReportQuery, on_time_s: int, cursor: str) -> tuple[list[CollectionRow], str]:
        """Return figures inside the asker's regions, and the next page's cursor; `query` without regions and place.

        Raises:
            BadRequestError: the range is too long, or ends before it begins; the cursor is of another question.

        """
        limit, days = query.limit, query.end - query.first
        most = MAX_INTERVAL_DAYS if query.per == "interval" else MAX_DAYS
        if days < 0 or days > most:
            raise BadRequestError("to", f"must lie from 0 to {most} days after from")
        if query.per == "interval":
            limit = min(limit, MAX_INTERVAL_ROWS)
        about = ("collection", query.first, query.end, query.by, query.per, query.region, query.key)
        after = unpack_cursor(cursor, about, (int, int, str, int))[2:] if cursor else ("", -1)
        rows = report(
            self._state,
            ReportQuery(
                query.by,
                query.first,
                query.end,
                limit + 1,
                query.per,
                grant.regions,
                query.region,
                query.key,
                (str(after[0]), int(after[1])),
            ),
        )
        found = [self._row(row, query, on_time_s) for row in rows[:limit]]
        if len(rows) <= limit:
            return found, ""
        last = rows[limit - 1]
        day = last.day if last.day is not None else -1
        return found, pack_cursor(about, query.first * DAY, query.end * DAY, last.key, day)

    def gaps(self, grant: Grant, query: GapsQuery, kinds: Sequence[str], cursor: str) -> tuple[list[GapRow], str]:
        """Return gaps of intervals in the asker's sight, then gaps of seqs for those who see everything.

        Raises:
            BadRequestError: the cursor is of another question.

        """
        about = ("gaps", query.start, query.end, tuple(query.states), query.devices and sorted(query.devices), kinds)
        at = unpack_cursor(cursor, about, (int, int, str, int, str, str)) if cursor else (0, 0, "", 0, "", "")
        found: list[GapRow] = []
        place: _Place | None = (int(at[3]), str(at[4]), str(at[5]))
        if "intervals" in kinds and at[2] != "seqs":
            gaps, place = self._interval_gaps(grant, query, place if at[2] else None)
            found += [gap_row(gap) for gap in gaps]
            if place is not None:
                return found, pack_cursor(about, query.start, query.end, "intervals", *place)
        if "seqs" in kinds and query.devices is None and covers(grant.regions, EVERYWHERE):
            room = query.limit - len(found)
            after = (str(at[4]), str(at[5]), int(at[3])) if at[2] == "seqs" else None
            seqs = self._seqs(query.states, room + 1, after)
            found += [seq_gap_row(each) for each in seqs[:room]]
            if len(seqs) > room > 0:
                last = seqs[room - 1]
                return found, pack_cursor(about, query.start, query.end, "seqs", last.first, last.gateway, last.epoch)
        return found, ""

    def measures(self) -> Iterator[Measure]:
        """Yield the newest judged day's figures by gateway, gaps by state, and the gateways' clocks."""
        with self._measuring:
            made, known = self._measured
            if not known or time.monotonic() - made > MEASURES_S:
                known = list(self._fresh_measures())
                self._measured = (time.monotonic(), known)
        yield from known
        for gateway, seconds in islice(self._offsets().items(), SHOWN_GATEWAYS):
            text = "How far a gateway's clock is ahead of the head-end's, about"
            yield Measure("gateway_clock_offset_seconds", "gauge", text, seconds, {"gateway": gateway})

    # --- inside -------------------------------------------------------------------------------------------------------

    def _row(self, row: ReportRow, query: ReportQuery, on_time_s: int) -> CollectionRow:
        figures = row.figures
        gateway = self._offsets().get(row.key) if query.by == "gateway" else None
        return CollectionRow(
            by=query.by,
            id=row.key,
            day=to_rfc3339(row.day * DAY)[:10] if row.day is not None else None,
            devices=row.devices,
            expected=figures.expected,
            held=figures.held,
            recovered=figures.recovered,
            no_supply=figures.no_supply,
            lost=figures.lost,
            missing=figures.missing,
            first_try=figures.first_try,
            backfilled=figures.backfilled,
            on_time=figures.on_time(on_time_s),
            success_rate=rate(figures.success_rate),
            on_time_rate=rate(figures.on_time_rate(on_time_s)),
            first_try_rate=rate(figures.first_try_rate),
            lost_reasons=dict(row.reasons),
            meter_clock_offset_s=offset_s(row.clock_ms),
            gateway_clock_offset_s=round(gateway, 3) if gateway is not None else None,
            intervals=[
                IntervalFigures(
                    _time_of_day(place),
                    each.expected,
                    each.held + each.recovered,
                    each.no_supply,
                    rate(each.success_rate),
                    rate(each.on_time_rate(on_time_s)),
                    rate(each.first_try_rate),
                )
                for place, each in enumerate(row.buckets)
                if each.expected
            ],
        )

    def _interval_gaps(self, grant: Grant, query: GapsQuery, after: _Place | None) -> tuple[list[Gap], _Place | None]:
        """Return at most `limit` gaps in sight, and the place to go on from; None where there are no more."""
        sight = Sight(self._registry, grant.regions, self._clock())
        found: list[Gap] = []
        for _ in range(GAP_PAGES):
            asked = GapsQuery(query.start, query.end, query.limit, query.states, query.devices, after)
            page = self._gaps.find(asked)
            for gap in page:
                after = (gap.start, gap.device, gap.profile)
                if sight.sees(gap.device, gap.end):
                    found.append(gap)
                    if len(found) == query.limit:
                        return found, after
            if len(page) < query.limit:
                return found, None
        return found, after

    def _seqs(self, states: Sequence[str], limit: int, after: tuple[str, str, int] | None) -> list[SeqGap]:
        """Return gaps of seqs in order: those that will never come are lost, those still to come are open."""
        found: list[SeqGap] = []
        if not states or "lost" in states:
            found += self._seq_gaps.find(limit, after)
        if not states or "open" in states:
            found += [each for each in self._missing() if after is None or _place(each) > after]
        return sorted(found, key=_place)[:limit]

    def _fresh_measures(self) -> Iterator[Measure]:
        last = self.judged_until() // DAY - 1
        for row in report(self._state, ReportQuery("gateway", last, last + 1, SHOWN_GATEWAYS)):
            yield from _day_measures(row.key, row.figures)
        for gateway, state, count in self._gaps.counts()[: 4 * SHOWN_GATEWAYS]:
            label = {"gateway": gateway}
            yield Measure(f"gaps_{state}", "gauge", f"Gaps of intervals that are {state}", count, label)
        for gateway, reason, seqs, readings in self._seq_gaps.counts()[:SHOWN_GATEWAYS]:
            label = {"gateway": gateway, "reason": reason}
            yield Measure("gateway_skipped", "gauge", "Seqs that will never come", seqs, label)
            yield Measure("gateway_skipped_readings", "gauge", "Values that were in them", readings, label)


def _day_measures(gateway: str, figures: Figures) -> Iterator[Measure]:
    label = {"gateway": gateway}
    for name in ("expected", "held", "recovered", "no_supply", "lost", "missing", "first_try"):
        text = f"Slots of the newest judged day: {name.replace('_', ' ')}"
        yield Measure(f"collection_{name}", "gauge", text, getattr(figures, name), label)
    text = "Slots of the newest judged day that came within an hour"
    yield Measure("collection_on_time", "gauge", text, figures.on_time(3600), label)


def _place(gap: SeqGap) -> tuple[str, str, int]:
    return gap.gateway, gap.epoch, gap.first


def _time_of_day(place: int) -> str:
    return to_rfc3339(place * BUCKET)[11:16]
