"""Scheduled reads of profiles, events and clocks, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from collector.lanes import Lane
from gateway.grid import Grid
from gateway.intake import ProfileTask
from gateway.ledger import Irregular
from gateway.profiles import timing_of
from metering.errors import NoAnswerError, RefusedError
from metering.model import SECOND, Block, Event, Source
from metering.quality import Quality
from metering.timing import from_rfc3339
from storage.codec import unpack

NOON = from_rfc3339("2026-06-01T12:00:00Z")
STEP = 900 * SECOND
HOUR = 3600 * SECOND

Run = Callable[[Coroutine[Any, Any, None]], None]
Make = Callable[..., Any]


def slots(blocks: list[Block]) -> list[str]:
    return [f"{(block.slot - NOON) // STEP:+d}" for block in blocks if block.slot is not None]


def test_each_scheduled_read_asks_from_the_newest_held_row_on(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        await site.run(3.5, filling=False, polling=False)
        came = slots(site.blocks())
        assert came[:96] == [f"{number:+d}" for number in range(-95, 1)]  # one piece, and no more, at first
        assert came[96:] == [f"{number:+d}" for number in range(1, 13)]
        assert site.meters[0].done == ["96 rows", "4 rows", "4 rows", "4 rows"]

    virtual(run())


def test_offsets_are_stored_as_readings_and_a_clock_that_is_far_off_is_told_once(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        site.meters[0].offset = -90 * SECOND
        await site.run(3.5, filling=False, polling=False)
        offsets = [block for block in site.blocks(Source.POLL) if block.layout.columns[0].obis == "0-0:1.0.0*255"]
        assert [list(block.values) for block in offsets] == [[-90_000]] * 4
        assert [event.detail["seconds"] for event in site.events("meter-clock-off")] == ["-90.000"]
        assert site.meters[0].offset == -90 * SECOND  # report only

    virtual(run())


def test_a_small_offset_is_shifted_inside_an_interval_once_its_rows_are_read(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site(shift=True)
        site.meters[0].offset = 20 * SECOND
        await site.run(1.5, filling=False, polling=False)
        assert site.meters[0].done == ["96 rows", "shift -20", "4 rows"]
        (event,) = site.events("meter-clock-corrected")
        assert event.detail == {"how": "shifted", "before": "+20.000", "after": "+0.000"}
        marked = [block for block in site.blocks() if block.quality_of(0) & Quality.CLOCK_ADJUSTED]
        assert slots(marked) == ["+1"]  # the interval in which it happened, and no other

    virtual(run())


def test_a_meter_with_several_profiles_is_shifted_once_all_of_them_are_read(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site(shift=True)
        meter = site.meters[0]
        meter.offset = 20 * SECOND
        other = type(meter)(1, site.wall)
        other.name = "second"
        site.reads._tasks["m1"].append(ProfileTask(site.bus_meters[0], other))
        await site.run(0.9, filling=False, polling=False)
        assert (meter.done, other.done) == (["96 rows", "shift -20"], ["96 rows"])
        asked = [what for _, _, what in site.wire.began]
        assert asked.index(b"shift") > len(asked) - 1 - asked[::-1].index(b"rows")
        assert asked.count(b"events") == 1

    virtual(run())


def test_nothing_is_shifted_while_the_newest_row_has_not_come(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site(shift=True)
        site.meters[0].offset = 20 * SECOND
        site.meters[0].gone = {NOON}
        await site.run(0.9, filling=False, polling=False)
        assert site.meters[0].done == ["95 rows"]

    virtual(run())


def test_a_person_sets_a_clock_after_the_rows_that_it_touches_were_read(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        meter = site.meters[0]
        meter.offset = -5 * HOUR
        task = site.reads.tasks_of("m1")[0]
        await site.reads.read(task, Lane.SCHEDULE)
        await asyncio.sleep(3600)
        meter.done.clear()
        before, after = await site.clock_work.set(site.bus_meters[0], "me")
        assert meter.done == ["4 rows", "set"]
        assert (round(before.offset / SECOND), round(after.offset / SECOND)) == (-5 * 3600, 0)
        (event,) = [event for event in [*site.recorder._events] if event.name == "meter-clock-corrected"]
        assert (event.detail["how"], event.detail["before"]) == ("set by me", "-18000.000")
        await asyncio.sleep(2 * 3600)
        await site.reads.read(task, Lane.SCHEDULE)
        await site.recorder.commit()
        marked = [block for block in site.blocks() if block.quality_of(0) & Quality.CLOCK_ADJUSTED]
        assert slots(marked)[-1] == "+5"  # from the interval it was in to the one it is in now
        assert "+6" in slots(site.blocks())

    virtual(run())


def test_a_time_that_goes_to_the_whole_line_is_noted_at_every_meter_of_it(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site(2)
        meter, other = site.meters
        meter.offset = other.offset = -90 * SECOND
        meter.reaches_line = other.reaches_line = True
        site.clocks.note("m2", await other.get(_Free(site)))
        await site.clock_work.set(site.bus_meters[0], "me")
        told = {event.device: event.detail for event in site.recorder._events if event.name == "meter-clock-corrected"}
        assert told["m2"] == {"how": "set with m1 by me, not confirmed", "before": "-90.000", "after": "+0.000"}
        (correction,) = site.clocks.corrections("m2")
        assert correction.span[1] - correction.span[0] == 90 * SECOND
        for again in site.bus_meters:  # once a day, whichever meter of the line it was meant for
            with pytest.raises(RefusedError, match="told the time today"):
                await site.clock_work.set(again, "me")
        await asyncio.sleep(24 * 3600)
        await site.clock_work.set(site.bus_meters[1], "me")

    virtual(run())


def test_a_meter_that_took_anothers_place_is_not_asked_for_the_others_holes(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        task = site.reads.tasks_of("m1")[0]
        await site.reads.read(task, Lane.SCHEDULE)
        meter = site.bus_meters[0]
        meter.settings = meter.settings.model_copy(update={"installed": NOON - 3 * 24 * HOUR})
        task.rows = None
        rows = site.intake.rows_of(task)
        holes = rows.holes(rows.grid.at_or_before(NOON))
        assert holes
        assert rows.grid.slot(holes[0][0]) > meter.settings.installed
        assert {event.detail["reason"] for event in site.recorder._events if event.name == "intervals-lost"} <= {
            "before this meter was installed"
        }

    virtual(run())


def test_a_clock_set_back_lets_the_intervals_that_come_twice_be_read_again(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        meter = site.meters[0]
        meter.offset = 2 * HOUR
        task = site.reads.tasks_of("m1")[0]
        site.clocks.note("m1", await meter.get(_Free(site)))
        meter.done.clear()
        rows = site.intake.rows_of(task)
        await site.clock_work.set(site.bus_meters[0], "me")
        await site.recorder.commit()
        newest = rows.grid.at_or_before(NOON + 2 * HOUR)
        assert rows.counts(newest).missing >= 8
        await asyncio.sleep(3 * 3600)
        await site.attempt()
        again = [block for block in site.blocks() if block.slot == NOON + 4 * STEP]
        assert again
        assert all(block.quality_of(0) & Quality.CLOCK_ADJUSTED for block in again)

    virtual(run())


class _Free:
    """A conversation beside the bus."""

    def __init__(self, site: Any) -> None:  # noqa: ANN401 - the site of the tests
        self._site = site

    async def transact(self, exchange: object) -> Any:  # noqa: ANN401 - an answer
        from collector.exchange import Answer

        del exchange
        return Answer(b"", self._site.wall(), self._site.wall())


def test_a_correction_that_was_not_confirmed_is_noted_all_the_same(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        meter = site.meters[0]
        meter.offset = 90 * SECOND
        take = meter.set

        async def set_and_fall_silent(talk: Any, instant: int) -> None:  # noqa: ANN401 - a talk
            await take(talk, instant)
            site.wire.silent = {1}

        meter.set = set_and_fall_silent
        with pytest.raises(NoAnswerError):
            await site.clock_work.set(site.bus_meters[0], "me")
        await site.recorder.commit()
        assert [event.detail["how"] for event in site.events("meter-clock-corrected")] == ["set by me, not confirmed"]
        assert len(site.clocks.corrections("m1")) == 1

    virtual(run())


def test_a_clock_is_not_set_while_ours_is_not_trusted(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        site.clock._floor = NOON + 400 * HOUR
        with pytest.raises(RefusedError):
            await site.clock_work.set(site.bus_meters[0], "me")
        assert site.meters[0].done == []

    virtual(run())


def test_rows_from_the_future_are_put_aside_with_the_clocks_offset_and_once(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        site.meters[0].offset = 3 * HOUR
        task = site.reads.tasks_of("m1")[0]
        for _ in range(3):
            await site.reads.read(task, Lane.SCHEDULE)
        await site.recorder.commit()
        assert all(block.measured_at <= site.wall() for block in site.blocks())
        (item,) = site.quarantine.items()
        assert "+10800 s" in item.reason
        assert slots(list(unpack(item.payload).blocks)) == [f"{number:+d}" for number in range(1, 13)]

    virtual(run())


def test_a_row_that_contradicts_the_poll_of_its_boundary_is_flagged_and_told(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        site.meters[0].shows = lambda instant: instant // STEP - (300 if instant == NOON + 2 * STEP else 0)
        await site.run(1.5, filling=False)
        flagged = [block for block in site.blocks() if block.quality_of(0) & Quality.DIFFERS]
        assert slots(flagged) == ["+2"]
        (event,) = site.events("profile-differs")
        assert (event.detail["profile"], event.detail["slot"]) == ("load", "2026-06-01T12:30:00Z")

    virtual(run())


def test_rows_that_come_when_the_meter_makes_them_are_asked_for_from_the_newest_on(
    virtual: Run, make_site: Make
) -> None:
    async def run() -> None:
        site = make_site()
        meter = site.meters[0]
        meter.interval = 0
        asked: list[tuple[int, int]] = []
        months = [NOON - 40 * 24 * HOUR, NOON - 10 * 24 * HOUR]

        async def read_profile(talk: Any, start: int, end: int, *, into: list[Block]) -> None:  # noqa: ANN401 - a talk
            await meter.ask(talk, b"rows", 0.1)
            asked.append((start, end))
            found = [at for at in months if start < at <= end][:1]
            into += [Block(meter.layout, "m1", at, at, (1,), at) for at in found]

        meter.read_profile = read_profile
        task = site.reads.tasks_of("m1")[0]
        await site.reads.read(task, Lane.SCHEDULE)
        await site.recorder.commit()
        assert [block.slot for block in site.blocks()] == months
        rows = site.intake.rows_of(task)
        assert isinstance(rows, Irregular)
        assert rows.newest == months[-1]
        months.append(NOON + SECOND // 2)
        asked.clear()
        await asyncio.sleep(10)
        await site.reads.read(task, Lane.SCHEDULE)
        assert asked[0][0] == months[1]

    virtual(run())


def test_a_profile_without_an_interval_is_read_once_a_day_and_one_that_has_one_after_all_each_hour(
    virtual: Run, make_site: Make
) -> None:
    async def run() -> None:
        for interval, times in ((0, 2), (900, 13)):
            site = make_site()
            meter = site.meters[0]
            meter.interval = 0
            prepare = meter.prepare

            async def tell(
                talk: Any,  # noqa: ANN401 - a talk
                meter: Any = meter,  # noqa: ANN401 - a meter
                prepare: Any = prepare,  # noqa: ANN401 - its method
                interval: int = interval,
            ) -> None:
                await prepare(talk)
                meter.interval = interval

            meter.prepare = tell
            await site.run(13, filling=False, polling=False)
            assert len([what for _, _, what in site.wire.began if what == b"clock"]) == times

    virtual(run())


def test_a_meter_that_refuses_its_events_is_read_all_the_same(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()

        async def refuse(talk: object, since: int, *, into: list[Event]) -> None:
            del talk, since, into
            raise RefusedError("not for this client", code=3)

        site.meters[0].read_events = refuse
        await site.run(0.9, filling=False, polling=False)
        assert site.meters[0].done == ["96 rows"]

    virtual(run())


def test_a_profile_that_the_meter_does_not_have_is_not_counted(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()

        async def refuse(talk: object) -> None:
            del talk
            raise RefusedError("there is no such object", code=4)

        site.meters[0].prepare = refuse
        assert site.backfill.status()["m1"].missing > 0
        await site.attempt()
        assert site.backfill.status() == {}

    virtual(run())


@pytest.mark.parametrize(
    ("interval", "zone", "period", "earliest"),
    [
        (900, "UTC", 3600, 60),
        (7200, "UTC", 7200, 60),
        (86_400, "UTC", 86_400, 60),
        (86_400, "Asia/Shanghai", 86_400, 16 * 3600 + 60),
        (0, "Asia/Shanghai", 3600, 60),
        (86_400, "Europe/Berlin", 86_400, 23 * 3600 + 60),
    ],
)
def test_profiles_are_read_soon_after_their_boundary(
    make_site: Make, interval: int, zone: str, period: int, earliest: int
) -> None:
    async def run() -> None:
        meter = make_site().meters[0]
        meter.interval = interval
        found, offset = timing_of(ProfileTask(meter.bus_meter(zone), meter))
        assert found == period
        assert earliest <= offset <= earliest + 900

    asyncio.run(run())


def test_the_grid_of_the_tests_is_the_meters() -> None:
    assert Grid(900).index(NOON) is not None
