"""Holes are filled from the meters' memories, and nobody else is kept waiting for it."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.accounts import Accounts
from metering import events
from metering.model import SECOND, Event
from metering.quality import Quality
from metering.timing import from_rfc3339

NOON = from_rfc3339("2026-06-01T12:00:00Z")
STEP = 900 * SECOND
DAY = 86_400 * SECOND

Run = Callable[[Coroutine[Any, Any, None]], None]
Make = Callable[..., Any]


def test_a_gateway_that_was_off_for_forty_days_catches_up_without_delaying_the_schedule(
    virtual: Run, make_site: Make
) -> None:
    late: dict[bool, list[float]] = {}
    for filling in (False, True):

        async def run(*, filling: bool = filling) -> None:
            site = make_site(8)
            site.since = NOON - 40 * DAY
            for number in range(8):
                task = site.reads.tasks_of(f"m{number + 1}")[0]
                site.intake.rows_of(task).forget(site.intake.rows_of(task).grid.at_or_before(NOON - 40 * DAY))
            await site.run(4, filling=filling)
            polls = [at for at, _, what in site.wire.began if what == b"poll"]
            assert len(polls) == 8 * 16
            late[filling] = [at - 1000.0 - (at - 1000.0) // 900 * 900 for at in polls]
            if filling:
                for meter in site.meters:
                    counts = site.counts(meter.id)
                    assert counts.expected == 40 * 96 + 3 * 4 + 1
                    assert counts.held == counts.expected
                    assert len({block.slot for block in site.blocks() if block.device == meter.id}) >= counts.held

        virtual(run())
    piece_s = 0.1 + 96 * 0.05
    assert max(late[True]) <= max(late[False]) + piece_s + 0.5
    assert sum(late[True]) / len(late[True]) <= sum(late[False]) / len(late[False]) + piece_s


def test_holes_are_filled_newest_first_and_each_row_comes_once(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        await site.attempt()
        slots = [block.slot for block in site.blocks()]
        assert len(slots) == len(set(slots)) == 60 * 96
        older = slots[:-4]  # the last hour is the schedule's business, and came last
        pieces = [older[at : at + 96] for at in range(0, len(older), 96)]
        assert all(piece == sorted(piece) for piece in pieces)
        assert [piece[0] for piece in pieces] == sorted((piece[0] for piece in pieces), reverse=True)
        assert site.counts().missing == 0

    virtual(run())


def test_a_row_in_the_middle_is_lost_at_the_second_attempt_and_told_by_days(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        gone = {NOON - 13 * 3600 * SECOND + number * STEP for number in range(8)}  # 23:00 to 00:45
        site.meters[0].gone = gone
        await site.attempt()
        assert site.counts().missing == 8
        assert site.events("intervals-lost") == []
        await site.attempt()
        assert (site.counts().missing, site.counts().lost) == (0, 8)
        told = site.events("intervals-lost")
        assert [event.detail["count"] for event in told] == ["4", "4"]
        assert {event.detail["reason"] for event in told} == {"not in the meter's profile, asked twice"}
        assert [event.time for event in told] == [from_rfc3339(event.detail["from"]) for event in told]
        await site.attempt()
        assert len(site.events("intervals-lost")) == 2
        site.meters[0].gone = set()
        asked = len(site.wire.began)
        await site.attempt()
        assert len(site.wire.began) == asked  # what is settled is not asked for again

    virtual(run())


def test_an_error_is_no_answer_and_loses_nothing(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site(2)
        site.wire.silent = {1}
        for _ in range(3):
            await site.attempt()
        assert (site.counts("m1").held, site.counts("m1").lost) == (0, 0)
        assert site.counts("m2").missing == 0  # a silent meter holds nobody up

    virtual(run())


def test_a_meter_that_answers_again_is_caught_up_at_once(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        site.wire.silent = {1}

        async def heal() -> None:
            await asyncio.sleep(3600 * 1.5)
            site.wire.silent = set()

        site.spawn(heal())
        await site.run(1.95)
        assert site.counts().missing == 0

    virtual(run())


def test_a_line_that_was_down_is_caught_up_within_a_minute_or_two(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site(2)
        site.wire.down = True

        async def heal() -> None:
            await asyncio.sleep(600)
            site.wire.down = False

        site.spawn(heal())
        await site.run(0.9, polling=False)
        assert site.counts("m1").missing == site.counts("m2").missing == 0

    virtual(run())


def outage(device: str, down: int, up: int) -> list[Event]:
    kinds = ((events.POWER_DOWN, down), (events.POWER_UP, up))
    return [Event(device, at, kind.code, kind.name, at, {}) for kind, at in kinds]


def test_intervals_inside_a_recorded_power_failure_have_no_supply(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        meter = site.meters[0]
        down, up = NOON - 5 * 3600 * SECOND + 7 * 60 * SECOND, NOON - 4 * 3600 * SECOND + 20 * 60 * SECOND
        meter.told = outage("m1", down, up)
        meter.gone = set(range(NOON - 5 * 3600 * SECOND + STEP, up, STEP))
        await site.reads.read(site.reads.tasks_of("m1")[0], 2)
        await site.attempt()
        await site.attempt()
        assert [event.name for event in site.events("power-down")] == ["power-down"]
        (dark,) = site.events("no-supply")
        assert (dark.detail["from"], dark.detail["count"]) == ("2026-06-01T07:15:00Z", "5")
        assert site.events("intervals-lost") == []
        assert site.counts().missing == 0

    virtual(run())


def test_a_gap_before_a_row_that_the_meter_marked_has_no_supply(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        meter = site.meters[0]
        meter.gone = {NOON - 20 * STEP, NOON - 19 * STEP}
        meter.marks = {NOON - 18 * STEP: int(Quality.POWER_FAIL)}
        await site.attempt()
        await site.attempt()
        assert [event.detail["count"] for event in site.events("no-supply")] == ["2"]
        assert site.counts().no_supply == 2

    virtual(run())


def test_what_grew_older_than_the_meters_memory_is_lost(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        site.wire.silent = {1}
        await site.attempt()
        expected = site.counts().expected
        await asyncio.sleep(70 * 86_400)
        await site.attempt()  # nobody answers: nothing is said
        assert site.counts().lost == 0
        site.wire.silent = set()
        for _ in range(3):
            await asyncio.sleep(3600)
            await site.attempt()
        counts = site.counts()
        reasons = {event.detail["reason"] for event in site.events("intervals-lost")}
        assert "older than the meter's memory" in reasons
        assert counts.missing == 0
        assert counts.lost == pytest.approx(counts.expected - 61 * 96, abs=16)
        assert sum(int(event.detail["count"]) for event in site.events("intervals-lost")) == counts.lost
        assert counts.expected > expected

    virtual(run())


def test_what_the_log_does_not_have_is_not_held_and_comes_again_after_a_crash(
    virtual: Run, make_site: Make, tmp_path: Path
) -> None:
    async def run() -> None:
        site = make_site()
        site.backfill.wake()
        await site.backfill.fill(site.stop)
        assert site.counts().held == 0  # nothing was committed yet
        site.accounts.write(site.accounts.snapshot())
        crashed = Accounts(tmp_path / "accounts")
        assert crashed._stored.accounts["m1"]["load"].held == []
        await site.recorder.commit()
        assert site.counts().missing == 0
        site.accounts.write(site.accounts.snapshot())
        again = make_site()
        asked = len(again.wire.began)
        await again.attempt()
        assert again.counts().missing == 0
        assert [what for _, _, what in again.wire.began[asked:] if what == b"rows"] == []

    virtual(run())


def test_rows_that_a_head_end_asks_for_are_read_anew_though_they_were_held(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        await site.attempt()
        before = len(site.blocks())
        start = NOON - 30 * 3600 * SECOND
        assert site.backfill.reopen("m1", start, start + 8 * STEP)
        assert site.counts().missing == 8
        await site.backfill.fill(site.stop)
        await site.recorder.commit()
        assert site.counts().missing == 0
        again = [block.slot for block in site.blocks()[before:]]
        assert set(again) >= {start + number * STEP for number in range(1, 9)}
        assert len(again) <= 96  # one piece of the meter's memory, not all of it

    virtual(run())


def test_what_a_meter_does_not_have_is_not_reopened(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        await site.attempt()
        assert not site.backfill.reopen("m2", NOON - DAY, NOON)
        assert not site.backfill.reopen("m1", NOON - 900 * DAY, NOON - 800 * DAY)
        assert not site.backfill.reopen("m1", NOON + DAY, NOON + 2 * DAY)
        assert not site.backfill.reopen("m1", NOON - DAY, NOON - DAY)
        assert site.counts().missing == 0

    virtual(run())


def test_a_row_that_is_asked_for_and_gone_is_told_lost_after_two_more_answers(virtual: Run, make_site: Make) -> None:
    async def run() -> None:
        site = make_site()
        await site.attempt()
        gone = NOON - 30 * 3600 * SECOND
        site.meters[0].gone = {gone}
        assert site.backfill.reopen("m1", gone - STEP, gone)
        await site.backfill.fill(site.stop)
        await site.recorder.commit()
        assert site.events("intervals-lost") == []
        await site.attempt()
        await site.attempt()
        (told,) = site.events("intervals-lost")
        assert (told.detail["count"], told.time) == ("1", gone)

    virtual(run())
