"""Readings of the future: held back in the state, decided about by a rule or a person, released once with evidence."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from headend.audit.chain import Trail
from headend.held import RULE, Releaser, held_blocks
from headend.state import held as held_module
from headend.state.held import HeldBack, Order
from headend.state.store import State
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.quality import Quality
from storage.codec import Origin, unpack
from storage.log import Log, Record

DAY = 86_400 * SECOND
NOW = 20_000 * DAY
COLUMNS = (Column("1-0:1.8.0*255", "kWh", -2, "int"),)
POLL = Layout(Kind.REGISTER, Source.POLL, 900, COLUMNS)
PROFILE = Layout(Kind.REGISTER, Source.PROFILE, 900, COLUMNS)
ORIGIN = Origin("g1", "e", 7, 7)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log.open(tmp_path / "log")
    yield opened
    opened.close()


def block(at: int, layout: Layout = POLL, device: str = "m1") -> Block:
    return Block(layout, device, at, at, [5], slot=at - at % SECOND)


def order(action: str, *, offset: int | None = None, device: str = "") -> Order:
    return Order(action, "g1", device, "user:eva", "her clock", offset)  # type: ignore[arg-type]  # of a parameter


def stored(log: Log) -> list[Batch]:
    return [unpack(item.payload) for item in log.read(1, 1000) if isinstance(item, Record)]


def test_what_comes_again_is_held_once_and_keeps_what_was_decided(state: State, log: Log) -> None:
    held = HeldBack(state)
    came = held_blocks(ORIGIN, [block(NOW + DAY), block(NOW + 2 * DAY)], NOW, 86_400.0)
    held.put(came)
    held.put(came)
    (heap,) = held.heaps()
    assert (heap.blocks, heap.readings, heap.first, heap.last) == (2, 2, NOW + DAY, NOW + 2 * DAY)
    assert held.decide(order("release"), NOW) == 2
    held.put(came)
    releaser = Releaser(held, log, lambda: NOW)
    assert releaser.step() is False
    held.put(came)
    releaser.step()
    assert len(stored(log)) == 1
    assert held.heaps() == []


def test_a_release_by_a_person_changes_nothing_and_tells_who_and_why(state: State, log: Log) -> None:
    held = HeldBack(state)
    mine = block(NOW + DAY)
    held.put(held_blocks(ORIGIN, [mine], NOW, 86_400.0))
    held.decide(order("release"), NOW)
    Releaser(held, log, lambda: NOW).step()
    (batch,) = stored(log)
    assert [structs.replace(each, quality=()) for each in batch.blocks if not any(each.quality)] == [mine]
    (event,) = batch.events
    assert (event.name, event.device) == ("readings-released", "m1")
    assert (event.detail["by"], event.detail["reason"], event.detail["readings"]) == ("user:eva", "her clock", "1")
    (entry,) = Trail(state).all()
    assert (entry.kind, entry.subject, entry.actor) == ("held-back-release", "g1", "user:eva")


@pytest.mark.parametrize("given", [None, DAY], ids=["as measured", "as given"])
def test_a_re_timed_reading_lies_on_no_boundary_and_is_not_billed_on(state: State, log: Log, given: int | None) -> None:
    held = HeldBack(state)
    held.put(held_blocks(ORIGIN, [block(NOW + DAY)], NOW, 86_400.0))
    held.decide(order("retime", offset=given), NOW)
    Releaser(held, log, lambda: NOW).step()
    ((found,), (event,)) = stored(log)[0].blocks, stored(log)[0].events
    assert (found.measured_at, found.slot, list(found.quality)) == (NOW, None, [Quality.CLOCK_SUSPECT])
    assert (event.name, event.detail["shifted_s"]) == ("readings-retimed", "-86400.000")


def test_what_a_meter_stamped_itself_or_has_no_offset_is_not_re_timed_by_the_gateways_clock(state: State) -> None:
    held = HeldBack(state)
    held.put(held_blocks(ORIGIN, [block(NOW + DAY, PROFILE)], NOW, 86_400.0))
    held.put(held_blocks(Origin("g1", "e", 8, 8), [block(NOW + DAY)], NOW, None))
    assert held.decide(order("retime"), NOW) == 0
    assert list(Trail(state).all()) == []
    assert held.decide(order("retime", offset=DAY), NOW) == 1


def test_the_rule_waits_for_the_time_and_touches_nothing_of_a_gateway_whose_clock_was_off(
    state: State, log: Log
) -> None:
    held, clock = HeldBack(state), [NOW]
    held.put(held_blocks(ORIGIN, [block(NOW + DAY, PROFILE)], NOW, 2.0))
    held.put(held_blocks(Origin("g2", "e", 1, 1), [block(NOW + DAY, POLL, "m2")], NOW, 86_400.0))
    held.put(held_blocks(Origin("g3", "e", 1, 1), [block(NOW + DAY, POLL, "m3")], NOW, None))
    releaser = Releaser(held, log, lambda: clock[0])
    releaser.step()
    assert stored(log) == []
    clock[0] = NOW + DAY
    releaser.step()
    (batch,) = stored(log)
    assert [(each.device, each.slot, list(each.quality)) for each in batch.blocks] == [
        ("m1", NOW + DAY, [Quality.CLOCK_SUSPECT])
    ]
    assert batch.events[0].detail["by"] == RULE
    assert {heap.device for heap in held.heaps()} == {"m2", "m3"}


def test_one_device_may_be_decided_about_alone(state: State) -> None:
    held = HeldBack(state)
    held.put(held_blocks(ORIGIN, [block(NOW + DAY), block(NOW + DAY, device="m2")], NOW, 86_400.0))
    assert held.decide(order("release", device="m2"), NOW) == 1
    assert [heap.device for heap in held.heaps()] == ["m1"]


def test_a_gateway_has_room_until_too_much_of_it_waits(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_module, "MAX_OF_A_GATEWAY", 1)
    held = HeldBack(state)
    assert held.room("g1")
    held.put(held_blocks(ORIGIN, [block(NOW + DAY)], NOW, None))
    assert not held.room("g1")
    assert held.room("g2")
    held.decide(order("release"), NOW)
    assert held.room("g1")
