"""Entries of registers in both databases: added, ended by whom it takes, never gone, and all of it in the audit."""

from typing import Any

import msgspec
import pytest

from headend.audit.chain import Trail
from headend.audit.verify import verify
from headend.policy import registers as module
from headend.policy.facts import Entry, RegisterKind
from headend.policy.registers import CONFIRM_WITHIN_S, By, RegisterError, Registers
from headend.state.store import State
from metering.model import SECOND

NOW = 1_700_000_000 * SECOND
ANNA, BEN = By("token:aa", "anna", "js"), By("token:bb", "ben", "js")
LIFE = Entry("e1", "protected", "p1", "life-support", NOW, None, "ventilator", "call 17", "token:aa")
HOLD = Entry("h1", "hold", "p1", "weather", NOW, NOW + 60 * SECOND, "frost", "met office", "token:aa", {"low_c": "-9"})


def told(state: State) -> list[tuple[str, str]]:
    found = list(Trail(state).all())
    assert not verify(iter(found), ()).findings
    return [(link.actor, link.kind) for link in found]


def test_an_entry_counts_from_its_since_until_its_end(state: State):
    registers = Registers(state)
    registers.add(LIFE, "js", NOW)
    registers.add(HOLD, "js", NOW)
    assert registers.of_point("p1", "js/nj", NOW) == [LIFE, HOLD]
    assert registers.of_point("p1", "js/nj", NOW + 60 * SECOND) == [LIFE]
    assert registers.of_point("p1", "js/nj", NOW - 1) == []
    assert registers.of_point("p2", "js/nj", NOW) == []


@pytest.mark.parametrize(
    ("held", "region", "counts"),
    [
        ("js", "js/nj/st1", True),
        ("js/nj", "js/nj/st1", True),
        ("js/nj/st1", "js/nj/st1", True),
        ("js/nj/st1/a", "js/nj/st1", False),
        ("js/n", "js/nj/st1", False),
        ("nj", "js/nj/st1", False),
    ],
)
def test_a_hold_of_a_region_counts_at_all_its_meter_points(state: State, held: str, region: str, counts: bool):  # noqa: FBT001 - a column of the table
    registers = Registers(state)
    hold = msgspec.structs.replace(HOLD, point="", region=held)
    registers.add(hold, held, NOW)
    assert registers.of_point("p1", region, NOW) == ([hold] if counts else [])
    assert registers.page("hold", ("", ""), 10, None) == []
    assert [each.entry for each in registers.of_regions("", 10, NOW)] == [hold]
    registers.end("hold", "", "h1", ANNA, "mild again", NOW)
    registers.confirm("hold", "", "h1", BEN, NOW + 1)
    assert registers.of_point("p1", region, NOW + 1) == []
    assert registers.of_regions("", 10, NOW + 1) == []
    assert [link.subject for link in Trail(state).all()] == [held] * 3


def test_many_meter_points_are_asked_about_as_each_alone(state: State):
    registers = Registers(state)
    registers.add(LIFE, "js", NOW)
    registers.add(msgspec.structs.replace(HOLD, id="h2", point="p2"), "js/sz", NOW)
    registers.add(msgspec.structs.replace(HOLD, point="", region="js/nj"), "js/nj", NOW)
    regions = {"p1": "js/nj", "p2": "js/sz", "p3": "js/nj/st1", "p4": "zj"}
    found = registers.of_points(regions, NOW)
    assert found == {point: registers.of_point(point, region, NOW) for point, region in regions.items()}
    assert {point: [each.id for each in entries] for point, entries in found.items()} == {
        "p1": ["e1", "h1"],
        "p2": ["h2"],
        "p3": ["h1"],
        "p4": [],
    }


def test_the_same_entry_again_adds_nothing_and_another_under_its_id_is_refused(state: State):
    registers = Registers(state)
    first = registers.add(LIFE, "js", NOW)
    assert registers.add(msgspec.structs.replace(LIFE, by="token:bb"), "js", NOW + 5) == first
    with pytest.raises(RegisterError, match="says something else"):
        registers.add(msgspec.structs.replace(LIFE, until=NOW + SECOND), "js", NOW)
    assert told(state) == [("token:aa", "register-protected-added")]


@pytest.mark.parametrize("kind", ["protected", "hold", "dispute", "payment-plan"])
def test_an_entry_of_any_register_ends_early_only_when_another_person_confirms(state: State, kind: RegisterKind):
    registers, entry = Registers(state), msgspec.structs.replace(LIFE, kind=kind)
    registers.add(entry, "js", NOW)
    with pytest.raises(RegisterError, match="nobody asked"):
        registers.confirm(kind, "p1", "e1", BEN, NOW)
    registers.end(kind, "p1", "e1", ANNA, "moved away", NOW)
    registers.end(kind, "p1", "e1", ANNA, "again", NOW + 1)
    for same in (ANNA, By("token:cc", "anna", "js")):
        with pytest.raises(RegisterError, match="anna asked for the end of this entry and does not confirm it"):
            registers.confirm(kind, "p1", "e1", same, NOW + 1)
    assert registers.of_point("p1", "js/nj", NOW + 1) == [entry]
    ended = registers.confirm(kind, "p1", "e1", BEN, NOW + 2)
    assert (ended.end_asked_by, ended.ended_by, ended.end_reason) == ("token:aa", "token:bb", "moved away")
    assert registers.of_point("p1", "js/nj", NOW + 2) == []
    assert told(state) == [
        ("token:aa", f"register-{kind}-added"),
        ("token:aa", f"register-{kind}-end-asked"),
        ("token:bb", f"register-{kind}-ended"),
    ]


def test_an_entry_that_ended_stays_in_the_history_and_its_id_is_used_up(state: State):
    registers = Registers(state)
    registers.add(HOLD, "js", NOW)
    registers.end("hold", "p1", "h1", ANNA, "warm again", NOW)
    ended = registers.confirm("hold", "p1", "h1", BEN, NOW + SECOND)
    assert registers.history("hold", "p1") == [ended]
    with pytest.raises(RegisterError, match="ended already"):
        registers.end("hold", "p1", "h1", ANNA, "", NOW + 2 * SECOND)
    for again in (HOLD, msgspec.structs.replace(HOLD, until=NOW + 2 * SECOND)):
        with pytest.raises(RegisterError, match="choose another id"):
            registers.add(again, "js", NOW)


def test_no_change_of_an_entry_weakens_it(state: State):
    registers = Registers(state)
    registers.add(LIFE, "js", NOW)
    weaker: list[dict[str, Any]] = [
        {"until": NOW + 1}, {"since": NOW + SECOND}, {"name": "other"}, {"detail": {"a": "b"}}, {"reason": ""},
    ]  # fmt: skip
    for change in weaker:
        with pytest.raises(RegisterError, match="says something else"):
            registers.add(msgspec.structs.replace(LIFE, **change), "js", NOW)
    assert registers.of_point("p1", "js/nj", NOW + SECOND) == [LIFE]


def test_other_entries_keep_no_protection_out(state: State, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_ENTRIES", 2)
    registers = Registers(state)
    for number in range(4):  # ended ones do not count
        registers.add(msgspec.structs.replace(HOLD, id=f"o{number}", until=NOW), "js", NOW)
    for number in range(2):
        registers.add(msgspec.structs.replace(HOLD, id=f"f{number}", name="forecast"), "js", NOW)
    with pytest.raises(RegisterError, match="2 entries named forecast have not ended"):
        registers.add(msgspec.structs.replace(HOLD, id="f2", name="forecast"), "js", NOW)
    assert registers.add(LIFE, "js", NOW).entry == LIFE
    assert registers.add(HOLD, "js", NOW).entry == HOLD


def test_an_end_that_was_asked_for_long_ago_is_asked_for_anew(state: State):
    registers = Registers(state)
    registers.add(LIFE, "js", NOW)
    registers.end("protected", "p1", "e1", ANNA, "moved away", NOW)
    later = NOW + CONFIRM_WITHIN_S * SECOND
    with pytest.raises(RegisterError, match="nobody asked"):
        registers.confirm("protected", "p1", "e1", BEN, later)
    registers.end("protected", "p1", "e1", BEN, "moved away", later)
    registers.confirm("protected", "p1", "e1", ANNA, later)
    assert registers.of_point("p1", "js/nj", later) == []


def test_what_is_not_there_cannot_end(state: State):
    with pytest.raises(KeyError):
        Registers(state).end("hold", "p1", "none", ANNA, "", NOW)


def test_entries_come_in_pages(state: State):
    registers = Registers(state)
    for point in ("p1", "p2"):
        for name in ("a", "b"):
            registers.add(msgspec.structs.replace(HOLD, point=point, id=name), "js", NOW)
    page = registers.page("hold", ("p1", "a"), 2, NOW)
    assert [(each.entry.point, each.entry.id) for each in page] == [("p1", "b"), ("p2", "a")]
    assert registers.page("hold", ("", ""), 9, NOW + 60 * SECOND) == []
    assert len(registers.page("hold", ("", ""), 9, None)) == 4
