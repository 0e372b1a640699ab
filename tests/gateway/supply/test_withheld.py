"""What a record says is withheld, after each step of commands that follow one another at one meter."""

from pathlib import Path

import pytest

from gateway.supply.items import KeptLimit, Opening
from gateway.supply.record import KEPT_S, Record
from gateway.supply.withheld import given_back, upon_end, upon_intent
from metering.model import SECOND
from metering.supply import Action, SupplyCommand
from metering.supply_states import Cause, State
from tests.gateway.supply.test_record import HOUR, NOW, command, held

A, C = Action, Cause


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "record")


def order(number: int, action: Action, **changes: object) -> SupplyCommand:
    return command(number, action=action, device="m1", point="MP-1", **changes)


def limit(number: int, until: int = NOW + HOUR, watts: int = 2000, reason: str = "debt") -> SupplyCommand:
    return order(number, A.LIMIT, limit_w=watts, limit_until=until, reason=reason)


def begin(record: Record, made: SupplyCommand, watts: int | None = 4600) -> None:
    before = None
    if made.limit_until is not None:
        before = KeptLimit("m1", made.id, {4: watts or 0}, watts, made.limit_until)
    record.put(*upon_intent(made, made.action, before, record, NOW))


def end(record: Record, made: SupplyCommand, cause: Cause = C.AS_ASKED) -> None:
    items = upon_end(made, cause, record, NOW)
    if items:
        record.put(*items)


def test_the_end_of_a_limit_leaves_a_disconnect_what_it_was_for(record: Record):
    for made in (order(1, A.DISCONNECT), limit(2)):
        begin(record, made)
        end(record, made)
    record.put(*given_back("m1"))
    assert record.openings["m1"].reason == "debt"
    assert (record.limited, record.limits) == ({}, {})


def test_a_restore_leaves_a_limit_that_goes_on(record: Record):
    for made in (limit(1), order(2, A.DISCONNECT)):
        begin(record, made)
        end(record, made)
    end(record, order(3, A.RESTORE))
    assert record.openings == {}
    assert record.limited["m1"].command == record.limits["m1"].command == "c1"


@pytest.mark.parametrize(
    ("first", "then", "left"),
    [("debt", "safety", "safety"), ("safety", "debt", "safety"), ("debt", "request", "request"), ("debt",) * 3],
)
def test_what_is_dark_for_two_reasons_is_dark_for_the_harder_one(record: Record, first: str, then: str, left: str):
    cut = order(1, A.DISCONNECT, reason=first)
    begin(record, cut)
    end(record, cut)
    end(record, order(2, A.DISCONNECT, reason=then))  # it was so already: no action
    assert record.openings["m1"].reason == left


def test_what_others_opened_is_not_taken_for_ones_own(record: Record):
    end(record, order(1, A.DISCONNECT))
    assert record.openings == {}


@pytest.mark.parametrize("cause", [C.NOT_AS_ASKED, C.METER_REFUSED, C.GUARD_REFUSED])
def test_a_second_limit_that_fails_leaves_the_first_its_end(record: Record, cause: Cause):
    first, second = limit(1, NOW + HOUR), limit(2, NOW + 9 * HOUR, 1500)
    for made, became in ((first, C.AS_ASKED), (second, cause)):
        begin(record, made)
        end(record, made, became)
    kept = record.limits["m1"]
    assert (kept.command, kept.until, kept.values, kept.limit_w) == ("c1", NOW + HOUR, {4: 4600}, 4600)


def test_a_limit_that_is_there_already_ends_when_the_last_one_says(record: Record):
    begin(record, limit(1, NOW + 9 * HOUR))
    end(record, limit(1, NOW + 9 * HOUR))
    end(record, limit(2, NOW + HOUR))
    assert (record.limits["m1"].command, record.limits["m1"].until) == ("c2", NOW + HOUR)


def test_a_limit_of_months_is_not_forgotten_before_its_end(record: Record):
    far = NOW + 200 * 24 * HOUR
    record.put(held(1, State.VERIFIED, action=A.LIMIT, limit_w=2000, limit_until=far))
    record.put(KeptLimit("m1", "c1", {4: 4600}, 4600, far), Opening("m1", "c1", "debt", NOW, limit=True))
    record.tidy(NOW + 2 * KEPT_S * SECOND)
    assert "c1" in record.held
    record.put(*given_back("m1"))
    record.tidy(NOW + 2 * KEPT_S * SECOND)
    assert record.held == {}
