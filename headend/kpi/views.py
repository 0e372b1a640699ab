"""The rows of answers about collection and gaps, ready to be encoded. They decide nothing."""

import msgspec

from headend.state.gaps import Gap, SeqGap
from metering.timing import to_rfc3339

RATE_DIGITS = 6


class IntervalFigures(msgspec.Struct, frozen=True):
    """A quarter hour of the day, UTC, from `time` on: slots of all days of the range together. Rates lie in 0 to 1."""

    time: str
    expected: int
    collected: int
    no_supply: int
    success_rate: float | None
    on_time_rate: float | None
    first_try_rate: float | None


class CollectionRow(msgspec.Struct, frozen=True):
    """Figures of one gateway, region, device or meter point; counts are slots of each channel, days are of UTC.

    expected = held + recovered + no_supply + lost + missing. `first_try` came by the scheduled read, `backfilled` later
    out of the meter's memory, `on_time` within the limit that was asked for, counted from the slot to when the gateway
    had it. Rates are of expected without no_supply; null where nothing could come. `day` is null where the figures are
    of the whole range; `intervals` are there where they were asked for. Clocks: seconds ahead, the furthest one.
    """

    by: str
    id: str
    day: str | None
    devices: int
    expected: int
    held: int
    recovered: int
    no_supply: int
    lost: int
    missing: int
    first_try: int
    backfilled: int
    on_time: int
    success_rate: float | None
    on_time_rate: float | None
    first_try_rate: float | None
    lost_reasons: dict[str, int]
    meter_clock_offset_s: float | None
    gateway_clock_offset_s: float | None
    intervals: list[IntervalFigures] = []


class GapRow(msgspec.Struct, frozen=True):
    """A gap. `type` is `intervals` (a device's, from < interval end <= to) or `seqs` (of a gateway's log, inclusive).

    `state`: `open`, `asked` (of the gateway), `recovered`, or `lost` with its reason. What does not apply is null.
    """

    type: str
    gateway: str
    state: str
    reason: str
    device: str | None = None
    profile: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")
    to: str | None = None
    tries: int | None = None
    asked_at: str | None = None
    answer: str | None = None
    epoch: str | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    readings: int | None = None


def rate(part: float | None) -> float | None:
    """Return a rate as it is shown: never 1 where something is missing."""
    if part is None:
        return None
    shown = round(part, RATE_DIGITS)
    return shown if (shown < 1) == (part < 1) else 1 - 10**-RATE_DIGITS


def offset_s(milliseconds: int | None) -> float | None:
    """Return a clock's offset in seconds."""
    return milliseconds / 1000 if milliseconds is not None else None


def gap_row(gap: Gap) -> GapRow:
    """Return a gap of intervals as it is shown."""
    return GapRow(
        "intervals",
        gap.gateway,
        gap.state,
        gap.reason,
        device=gap.device,
        profile=gap.profile,
        from_=to_rfc3339(gap.start),
        to=to_rfc3339(gap.end),
        tries=gap.tries,
        asked_at=_time(gap.asked_at),
        answer=gap.answer or None,
    )


def seq_gap_row(gap: SeqGap) -> GapRow:
    """Return a gap of seqs as it is shown; one without a reason is still to come."""
    return GapRow(
        "seqs",
        gap.gateway,
        "lost" if gap.reason else "open",
        gap.reason,
        from_=_time(gap.earliest),
        to=_time(gap.latest),
        epoch=gap.epoch,
        first_seq=gap.first,
        last_seq=gap.last,
        readings=gap.readings,
    )


def _time(instant: int | None) -> str | None:
    return to_rfc3339(instant) if instant is not None else None
