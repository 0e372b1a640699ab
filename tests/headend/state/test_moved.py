"""A meter point that comes under other rules: it is in the audit, and leaves no hold of its region behind."""

import pytest
from msgspec import structs

from headend.audit.chain import Trail
from headend.policy.facts import Entry
from headend.policy.registers import By, Registers
from headend.state.registrar import Registrar, Wanted
from headend.state.store import State
from metering.errors import ConfigError
from metering.model import MeterPoint

POINT = MeterPoint("p1", "js/nj/st1", "Asia/Shanghai", "Mill Lane 1", "resident")
HEAT = Entry("h1", "hold", "", "weather", 100, 200, "heat", "met office", "token:aa", region="js/nj")


def told(state: State) -> list[tuple[str, str, object]]:
    return [(each.actor, each.subject, each.body) for each in Trail(state).all() if each.kind == "meter-point-changed"]


@pytest.fixture
def registrar(state: State) -> Registrar:
    made = Registrar(state)
    made.put_point(POINT, 1, "token:aa")
    return made


@pytest.mark.parametrize(
    ("change", "body"),
    [
        ({"customer": "hospital"}, b'"customer":["resident","hospital"]'),
        ({"region": "js/wx"}, b'"region":["js/nj/st1","js/wx"]'),
        ({"zone": "UTC"}, b'"zone":["Asia/Shanghai","UTC"]'),
        ({"name": "Mill Lane 2"}, None),
        ({}, None),
    ],
    ids=["class", "region", "zone", "name", "nothing"],
)
@pytest.mark.parametrize("way", ["one by one", "from a file"])
def test_what_chooses_the_rules_is_in_the_audit_when_it_changes(
    state: State, registrar: Registrar, way: str, change: dict[str, str], body: bytes | None
):
    new = structs.replace(POINT, **change)
    if way == "one by one":
        registrar.put_point(new, 2, "token:bb")
    else:
        registrar.take_in(Wanted([], [new], [], []), 2, "token:bb")
    found = told(state)
    assert [each[:2] for each in found] == ([("token:bb", "p1")] if body else [])
    assert all(body in str(each[2]).encode() for each in found if body)


def test_no_meter_point_leaves_a_hold_of_its_region_behind_by_one_person(state: State, registrar: Registrar):
    registers = Registers(state)
    registers.add(HEAT, "js/nj", 100)
    away, within = structs.replace(POINT, region="js/wx"), structs.replace(POINT, region="js/nj/st2")
    says = "p1 would leave the hold h1 of js/nj: it ends first, by two persons, or at its time"
    with pytest.raises(ConfigError, match=says):
        registrar.put_point(away, 150, "token:aa")
    with pytest.raises(ConfigError, match=says):
        registrar.take_in(Wanted(["g1"], [away], [], []), 150)
    registrar.put_point(within, 150, "token:aa")
    registers.end("hold", "", "h1", By("token:aa", "anna", "js/nj"), "cool again", 160)
    with pytest.raises(ConfigError, match=says):
        registrar.put_point(away, 160, "token:aa")
    registers.confirm("hold", "", "h1", By("token:bb", "ben", "js/nj"), 170)
    registrar.put_point(away, 170, "token:aa")


def test_a_forecast_of_a_region_holds_no_meter_point_there(state: State, registrar: Registrar):
    Registers(state).add(structs.replace(HEAT, name="forecast"), "js/nj", 100)
    registrar.put_point(structs.replace(POINT, region="js/wx"), 150, "token:aa")
    assert [subject for _, subject, _ in told(state)] == ["p1"]
