"""What no person signed, by tables: a stolen service key, or nobody at all, holds up nothing and supersedes little."""

from pathlib import Path
from typing import Any

import pytest

from gateway.supply.guard import OF_SERVICES_A_DAY, act_at, at_the_door, superseded_by
from gateway.supply.items import held_of
from gateway.supply.record import Record
from metering.supply import Action
from metering.supply_states import State
from tests.gateway.supply.test_guard import SERVICE, found, take
from tests.gateway.supply.test_record import HOUR, NOW, command
from trust.document import Service

A = Action
SERVICES = Service("payments", "", 2)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "record")


def test_a_service_supersedes_only_what_is_for_a_debt(record: Record):
    take(record, command(1, reason="safety"))
    take(record, command(2, reason="debt"))
    gone = [
        superseded_by(record, found(command(9, action=A.RESTORE, point=point), service=SERVICES))
        for point in ("MP-1", "MP-2")
    ]
    assert [[each.command.id for each in held] for held in gone] == [[], ["c2"]]


def test_the_numbers_of_a_service_hold_up_what_withholds_and_never_what_people_give_back(record: Record):
    highest = command(1, action=A.RESTORE, seq=2**53 - 1)
    assert at_the_door(found(highest, service=SERVICES), record, NOW) is None
    record.put(held_of(highest, SERVICE, "payments", NOW, NOW, State.VERIFIED))
    own: dict[str, Any] = {"point": "MP-1", "device": "m1", "seq": 7}
    assert at_the_door(found(command(2, action=A.RESTORE, **own), "anna"), record, NOW) is None
    late = at_the_door(found(command(2, **own), "anna", "ben"), record, NOW)
    assert late is not None
    assert "number 7 comes after" in late.why
    assert Record(record._path).last_seq("m1", of_services=True) == 2**53 - 1


def test_a_service_fills_neither_the_record_nor_its_own_rate_for_others(record: Record):
    for number in range(1, 4):  # two that are not open here, and one that is
        made = command(number, action=A.RESTORE)
        assert act_at(found(made, service=SERVICES), record, NOW, 0) == NOW
        record.put(held_of(made, SERVICE, "payments", NOW, NOW, State.VERIFIED))
    assert record.served_since(NOW - HOUR) == 0
    waits = command(5, action=A.RESTORE)
    record.put(held_of(waits, SERVICE, "payments", NOW, NOW, State.ACCEPTED))
    again = command(6, action=A.RESTORE, point="MP-5", device="m5")
    refused = at_the_door(found(again, service=SERVICES), record, NOW)
    assert refused is not None
    assert "restore c5 is under way" in refused.why
    assert at_the_door(found(again, "anna"), record, NOW) is None
    far = command(8, action=A.RESTORE, not_before=NOW + 10 * HOUR, expires_at=NOW + 11 * HOUR)
    assert at_the_door(found(far, service=SERVICES), record, NOW) is not None
    assert at_the_door(found(far, service=SERVICES), record, NOW, clock_trusted=False) is None


def test_a_service_does_not_fill_the_record_with_orders_for_one_meter(record: Record):
    own: dict[str, Any] = {"action": A.RESTORE, "point": "MP-1", "device": "m1"}
    for number in range(1, OF_SERVICES_A_DAY + 1):
        assert at_the_door(found(command(number, **own), service=SERVICES), record, NOW) is None
        record.put(held_of(command(number, **own), SERVICE, "payments", NOW, NOW, State.VERIFIED))
    last = command(90, **own)
    refused = at_the_door(found(last, service=SERVICES), record, NOW)
    assert refused is not None
    assert "a person has to sign" in refused.why
    assert at_the_door(found(last, "anna"), record, NOW) is None
    assert at_the_door(found(command(91, action=A.RESTORE), service=SERVICES), record, NOW) is None


def test_reads_that_nobody_signs_keep_nothing_else_out(record: Record, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.supply.guard.MAX_READS", 3)
    monkeypatch.setattr("gateway.supply.guard.MAX_OPEN", 4)
    says = []
    for number, point in enumerate(["MP-1", "MP-1", "MP-2", "MP-3", "MP-4"], 1):
        made = command(number, action=A.READ_STATE, point=point)
        refused = at_the_door(found(made), record, NOW)
        says.append(refused.why if refused is not None else "")
        if refused is None:
            record.put(held_of(made, (), "", NOW, NOW, State.ACCEPTED))
    assert [bool(each) for each in says] == [False, True, False, False, True]
    assert "c1 is under way" in says[1]
    assert "3 reads" in says[4]
    assert at_the_door(found(command(9, action=A.RESTORE), "anna"), record, NOW) is None
    record.put(*(held_of(record.command(f"c{n}"), (), "", NOW, NOW, State.VERIFIED) for n in (1, 3, 4)))
    record.tidy(NOW + 2 * HOUR)
    assert (record.reads, record.floor) == (0, 0)
