"""Days are judged when they have closed, again when more came, and gateways are asked until the store has it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headend.kpi.collection import ASKS_OF_A_GATEWAY, CLOSE_S, Collection
from headend.kpi.figures import DAY, Figures
from headend.kpi.gaps import BEYOND_MEMORY, NO_MEMORY
from headend.registry import MemoryRegistry
from headend.state.collection_report import ReportQuery, report
from headend.state.gaps import Gap, GapsQuery, SeqGap
from headend.state.store import State
from metering import events
from metering.batch import Batch
from metering.errors import LinkDownError
from metering.model import (
    SECOND,
    Block,
    Column,
    Device,
    Event,
    Expectation,
    Installation,
    JournalEntry,
    Kind,
    Layout,
    MeterPoint,
    Skipped,
    Source,
)
from metering.timing import to_rfc3339
from metering.wire import Control
from storage.codec import Origin, pack, with_origin
from storage.embedded import EmbeddedStore
from storage.log import Record
from storage.projection import Stored

OBIS = "1-0:1.8.0*255"
STEP = 900 * SECOND
TODAY = 20_000
START = (TODAY - 1) * DAY
PROFILE = Layout(Kind.REGISTER, Source.PROFILE, 900, (Column(OBIS, "kWh", 0, "int"),))
POLL = Layout(Kind.REGISTER, Source.POLL, 900, (Column(OBIS, "kWh", 0, "int"),))


class Fleet:
    """A store, a state and what keeps the figures, with meters m0.. at gateway g1 and a clock to be set."""

    def __init__(self, folder: Path, meters: int = 1) -> None:
        self.now = TODAY * DAY + CLOSE_S * SECOND
        self.store = EmbeddedStore(folder / "readings.db")
        self.state = State.open(folder / "state.db")
        self.asked: list[tuple[str, Control]] = []
        self.down = False
        names = [f"m{number}" for number in range(meters)]
        registry = MemoryRegistry(
            [MeterPoint(f"p-{name}", "js/nj") for name in names],
            [Device(name, name, "x", "g1", memory_days=30) for name in names],
            [Installation(f"p-{name}", name, name, 0) for name in names],
        )
        self.collection = Collection(self.state, self.store, registry, self.ask, ("head", "e0"), lambda: self.now)

    async def ask(self, gateway: str, control: Control) -> None:
        if self.down:
            raise LinkDownError("the broker is away")
        self.asked.append((gateway, control))

    def bring(self, *blocks: Block, told: tuple[Event, ...] = (), promises: tuple[Expectation, ...] = ()) -> None:
        """Store what the log brought, and let it be known."""
        batch = Batch(self.now, blocks, told, promises)
        self.store.write([batch])
        self.collection.stored(Stored([(Record(1, pack(batch), self.now), batch)]))

    def later(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)
        self.collection.tick()

    def figures(self, day: int = TODAY - 1) -> Figures:
        rows = report(self.state, ReportQuery("gateway", day, day + 1, 9))
        return rows[0].figures if rows else Figures()

    def gaps(self) -> list[Gap]:
        return self.collection.gaps.find(GapsQuery(0, 2**62, 1000))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.store.close()
    made.state.close()


def promise(layout: Layout = PROFILE, device: str = "m0", since: int = START) -> Expectation:
    return Expectation(device, layout.kind, layout.source, layout.interval, (OBIS,), since, START + DAY)


def rows(*left_out: int, layout: Layout = PROFILE, device: str = "m0") -> list[Block]:
    """Return the rows of yesterday without some."""
    return [row(number, layout, device) for number in range(96) if number not in left_out]


def row(number: int, layout: Layout = PROFILE, device: str = "m0", late: int = 60) -> Block:
    slot = START + number * STEP
    return Block(layout, device, slot, slot + late * SECOND, (number,), slot)


def test_a_day_is_judged_once_it_has_closed(fleet: Fleet) -> None:
    fleet.now -= 60 * SECOND
    fleet.bring(*rows(7), promises=(promise(),))
    fleet.collection.tick()
    assert fleet.figures() == Figures()
    fleet.later(60)
    assert fleet.figures()[:2] == (96, 95)
    progress = fleet.collection.days.progress()
    assert progress is not None
    assert progress.day == TODAY


def test_late_rows_open_their_day_again(fleet: Fleet) -> None:
    fleet.bring(*rows(7, 8), promises=(promise(),))
    fleet.collection.tick()
    assert (fleet.figures().missing, [gap.state for gap in fleet.gaps()]) == (2, ["open"])
    fleet.bring(row(7, late=9000))
    fleet.later(60)
    assert fleet.figures()[:6] == (96, 95, 0, 0, 0, 94)
    states = [(gap.state, (gap.end - START) // STEP) for gap in fleet.gaps()]
    assert states == [("recovered", 7), ("open", 8)]


def test_what_the_gateway_tells_later_counts_too(fleet: Fleet) -> None:
    fleet.bring(*rows(7, 8), promises=(promise(),))
    fleet.collection.tick()
    for number, kind in ((7, events.NO_SUPPLY), (8, events.INTERVALS_LOST)):
        at = START + number * STEP
        detail = {"from": to_rfc3339(at), "to": to_rfc3339(at), "interval": "900", "reason": "not there"}
        fleet.bring(told=(Event("m0", at, kind.code, kind.name, at, detail),))
    fleet.later(60)
    figures = fleet.figures()
    assert (figures.no_supply, figures.lost, figures.missing) == (1, 1, 0)
    assert [(gap.state, gap.reason) for gap in fleet.gaps()] == [("lost", "no-supply"), ("lost", "not there")]


def test_a_promise_that_reaches_back_makes_past_days_expected(fleet: Fleet) -> None:
    fleet.collection.tick()
    fleet.bring(promises=(promise(since=START - 5 * DAY),))
    fleet.later(60)
    assert [fleet.figures(day).expected for day in range(TODAY - 8, TODAY)] == [0, 0, 96, 96, 96, 96, 96, 96]


async def test_a_gap_is_asked_for_until_the_store_has_it(fleet: Fleet) -> None:
    fleet.bring(*rows(7, 8), promises=(promise(),))
    fleet.collection.tick()
    await fleet.collection.ask()
    await fleet.collection.ask()  # not again at once
    ((gateway, control),) = fleet.asked
    assert (gateway, control.kind, control.device) == ("g1", "backfill", "m0")
    assert (control.start, control.end) == (START + 6 * STEP, START + 8 * STEP)
    fleet.later(600)
    await fleet.collection.ask()
    assert [each.id for _, each in fleet.asked] == [control.id] * 2  # no answer yet: the same question
    answer = Batch(fleet.now, journal=[JournalEntry(fleet.now, "backfill", control.id, "taken")])
    fleet.collection.stored(Stored([(Record(2, pack(answer), fleet.now), answer)]))
    (gap,) = fleet.gaps()
    assert (gap.state, gap.answer, gap.tries) == ("asked", "taken", 2)
    fleet.later(3600)
    await fleet.collection.ask()
    assert len(fleet.asked) == 2
    fleet.later(40_000)
    await fleet.collection.ask()
    assert len({each.id for _, each in fleet.asked}) == 2  # missing still: asked anew
    fleet.bring(row(7, late=9000), row(8, late=9000))
    fleet.later(60)
    assert [gap.state for gap in fleet.gaps()] == ["recovered"]
    fleet.later(90_000)
    await fleet.collection.ask()
    assert len(fleet.asked) == 3


async def test_while_the_broker_is_away_nothing_is_lost_and_the_gap_is_asked_for_later(fleet: Fleet) -> None:
    fleet.bring(*rows(7), promises=(promise(),))
    fleet.collection.tick()
    fleet.down = True
    await fleet.collection.ask()
    fleet.down = False
    fleet.later(600)
    await fleet.collection.ask()
    assert len(fleet.asked) == 1


async def test_what_lies_beyond_the_meters_memory_ends_as_lost(fleet: Fleet) -> None:
    fleet.bring(*rows(7), promises=(promise(),))
    fleet.collection.tick()
    await fleet.collection.ask()
    fleet.later(31 * 86_400)
    await fleet.collection.ask()
    fleet.later(1)
    mine = [gap for gap in fleet.gaps() if gap.day == TODAY - 1]
    assert [(gap.state, gap.reason) for gap in mine] == [("lost", BEYOND_MEMORY)]
    assert fleet.figures().missing == 1
    assert len([each for _, each in fleet.asked if each.end <= START + DAY]) == 1


async def test_a_meter_without_a_profile_of_its_own_is_not_asked(fleet: Fleet) -> None:
    fleet.bring(*rows(7, layout=POLL), promises=(promise(POLL),))
    fleet.collection.tick()
    await fleet.collection.ask()
    assert fleet.asked == []
    assert [(gap.state, gap.reason) for gap in fleet.gaps()] == [("lost", NO_MEMORY)]


async def test_kinds_of_read_that_lack_the_same_are_one_question(fleet: Fleet) -> None:
    fleet.bring(*rows(7), *rows(7, layout=POLL), promises=(promise(), promise(POLL)))
    fleet.collection.tick()
    await fleet.collection.ask()
    assert len(fleet.asked) == 1
    assert [gap.state for gap in fleet.gaps()] == ["asked", "asked"]


async def test_one_gateway_is_asked_for_a_few_gaps_at_a_time(fleet: Fleet) -> None:
    fleet.bring(*rows(*range(1, 96, 2)), promises=(promise(),))
    fleet.collection.tick()
    await fleet.collection.ask()
    assert len(fleet.asked) == ASKS_OF_A_GATEWAY
    await fleet.collection.ask()
    assert len({each.id for _, each in fleet.asked}) == 2 * ASKS_OF_A_GATEWAY


def test_more_devices_than_one_step_takes_are_all_judged_in_bounded_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headend.kpi.collection.DAYS_AT_ONCE", 4)
    monkeypatch.setattr("headend.kpi.collection.WORK_S", 0.0)
    fleet = Fleet(tmp_path, 10)
    fleet.bring(
        *(row(1, device=f"m{n}") for n in range(10)), promises=tuple(promise(device=f"m{n}") for n in range(10))
    )
    assert [fleet.collection._next() for _ in range(4)] == [True, True, True, False]
    (whole,) = report(fleet.state, ReportQuery("gateway", TODAY - 1, TODAY, 9))
    assert (whole.devices, whole.figures[:2]) == (10, (960, 10))
    fleet.store.close()
    fleet.state.close()


def test_days_before_the_first_promise_are_not_judged_until_one_reaches_back_to_them(fleet: Fleet) -> None:
    fleet.bring(*rows(), promises=(promise(since=START + DAY),))
    assert fleet.collection.days.due(2**62, 9) == []
    fleet.collection.tick()
    assert fleet.figures().expected == 0
    fleet.bring(*rows(), promises=())
    assert fleet.collection.days.due(2**62, 9) == []
    fleet.bring(promises=(promise(),))
    fleet.later(31)
    assert fleet.figures()[:2] == (96, 96)


def test_seqs_that_never_come_are_kept_with_where_they_came_from(fleet: Fleet) -> None:
    gone = Skipped(4, 6, "evicted", {"m0": 50}, START, START + STEP)
    batch = Batch(fleet.now, skipped=[gone])
    record = Record(9, with_origin(Origin("g1", "e1", 4, 6), pack(batch)), fleet.now)
    own = Skipped(1, 2, "lost")
    fleet.collection.stored(Stored([(record, batch)], [own]))
    fleet.collection.stored(Stored([(record, batch)], [own]))
    assert fleet.collection.seq_gaps.find(9) == [
        SeqGap("g1", "e1", 4, 6, "evicted", 50, START, START + STEP),
        SeqGap("head", "e0", 1, 2, "lost"),
    ]
