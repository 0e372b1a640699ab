"""What the store was just brought, as far as it concerns days that were judged: which days of which devices. Pure."""

from collections.abc import Iterator

from headend.absences import Absence, number_of
from headend.kpi.figures import DAY
from headend.rows import OF_AN_INTERVAL
from headend.state.gaps import SeqGap
from metering import events
from metering.batch import Batch
from metering.model import SECOND, Block, Event, Expectation, Skipped, Source
from storage.codec import Origin, origin_of
from storage.projection import Stored

LATEST_S = 3_600  # what is read so long after a day's end is of a later slot, but for profiles of longer intervals
BACKFILL = "backfill"  # the kind of journal entry that answers
_ABSENCES = {events.NO_SUPPLY.name, events.INTERVALS_LOST.name}


def late_days(batch: Batch, first: int, end: int) -> set[tuple[int, str]]:
    """Return the days with first <= day < end that a batch tells more of, each with its device."""
    found: set[tuple[int, str]] = set()
    today = end * DAY + LATEST_S * SECOND
    for block in batch.blocks:
        if (block.measured_at < today or block.layout.interval > LATEST_S) and (day := _day_of(block)) < end:
            found.add((day, block.device))
    for event in batch.events:
        found.update((day, event.device) for day in _days_of(event) if day < end)
    for promise in batch.expectations:
        found.update((day, promise.device) for day in _days_promised(promise, first, end))
    return {each for each in found if each[0] >= first}


def _day_of(block: Block) -> int:
    """Return the day in whose figures a block counts."""
    layout = block.layout
    slot = block.slot if block.slot is not None else block.measured_at
    if layout.source is Source.PROFILE and layout.interval:
        step = layout.interval * SECOND
        slot = number_of(slot, step) * step
    return (slot - (layout.kind in OF_AN_INTERVAL)) // DAY


def _days_of(event: Event) -> Iterator[int]:
    if event.name == events.METER_CLOCK_OFF.name:
        yield event.time // DAY
    elif event.name in _ABSENCES:
        try:
            absence = Absence(event)
        except (KeyError, ValueError):  # another system's event of the same name
            return
        yield (absence.first - 1) // DAY
        yield absence.last // DAY


def _days_promised(promise: Expectation, first: int, end: int) -> range:
    """Return the days whose expected slots a promise may change: also those after its end, if it was open before."""
    return range(max(first, promise.since // DAY), end)


def answers(stored: Stored) -> dict[str, str]:
    """Return what gateways answered to being asked for intervals: id of the control to their word."""
    return {entry.id: entry.state for _, batch in stored.batches for entry in batch.journal if entry.kind == BACKFILL}


def seq_gaps(stored: Stored, here: tuple[str, str]) -> list[SeqGap]:
    """Return the seqs that will never come; `here` is id and epoch of the log's owner, for what it lost itself."""
    found = [_seq_gap(*here, each) for each in stored.skipped]
    for record, batch in stored.batches:
        if batch.skipped:
            origin = origin_of(record.payload) or Origin(*here, 0, 0)
            found += [_seq_gap(origin.gateway, origin.epoch, each) for each in batch.skipped]
    return found


def _seq_gap(gateway: str, epoch: str, skipped: Skipped) -> SeqGap:
    return SeqGap(
        gateway,
        epoch,
        skipped.from_seq,
        skipped.to_seq,
        skipped.reason,
        sum(skipped.readings.values()),
        skipped.first,
        skipped.last,
    )
