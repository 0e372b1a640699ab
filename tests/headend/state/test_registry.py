import pytest
from msgspec import structs

from headend.registry import MemoryRegistry
from headend.state.assignments import Assignment, Assignments
from headend.state.gateways import Gateways
from headend.state.registrar import Registrar, Wanted
from headend.state.registry import DatabaseRegistry
from headend.state.store import State
from metering.errors import ConfigError
from metering.model import Device, Installation, MeterPoint
from metering.ports import Registry

POINTS = [MeterPoint("b", "js/njx", "Asia/Shanghai", "name"), MeterPoint("a", "js/nj/st1")]
DEVICES = [Device("m2", "2", "x", "g1", "maker", "model", 40), Device("m1", "1", "x"), Device("spare", "3", "x")]
FIRST = Installation("a", "m1", "1", 100, 200, {"1-0:1.8.0": "0"}, {"1-0:1.8.0": "12.50"}, "100", "1", "secondary")
SECOND = Installation("a", "m2", "2", 200)
LATER = Installation("b", "m1", "1", 300)


@pytest.fixture(params=["memory", "database"])
def registry(request: pytest.FixtureRequest, state: State) -> Registry:
    if request.param == "memory":
        return MemoryRegistry(POINTS, DEVICES, [LATER, SECOND, FIRST])
    Registrar(state).take_in(Wanted(["g1"], POINTS, DEVICES, [LATER, SECOND, FIRST]), 1)
    return DatabaseRegistry(state)


def test_points_and_devices_come_by_id_and_region(registry: Registry) -> None:
    assert list(registry.points([""])) == [POINTS[1], POINTS[0]]
    assert list(registry.points(["js/nj"])) == [POINTS[1]]
    assert list(registry.devices(["js/nj"])) == [DEVICES[1], DEVICES[0]]
    assert list(registry.devices(["js/njx"])) == [DEVICES[1]]
    assert list(registry.devices([""])) == [DEVICES[1], DEVICES[0], DEVICES[2]]
    assert (registry.point("b"), registry.point("c")) == (POINTS[0], None)
    assert (registry.device("m2"), registry.device("c")) == (DEVICES[0], None)


def test_installations_come_in_the_order_of_time(registry: Registry) -> None:
    assert list(registry.installations_at("a")) == [FIRST, SECOND]
    assert list(registry.installations_of("m1")) == [FIRST, LATER]
    assert list(registry.installations_at("c")) == list(registry.installations_of("c")) == []


def test_what_contradicts_itself_changes_nothing(state: State) -> None:
    registrar = Registrar(state)
    registrar.take_in(Wanted(["g1"], POINTS, DEVICES, [FIRST]), 1)
    with pytest.raises(ConfigError, match="overlaps"):
        registrar.take_in(Wanted(["g2"], POINTS, DEVICES, [Installation("a", "m2", "2", 199)]), 2)
    with pytest.raises(ConfigError, match="overlaps"):
        registrar.put_device(DEVICES[0], Installation("a", "m2", "2", 199))
    with pytest.raises(ConfigError, match="no such meter point"):
        registrar.put_device(DEVICES[0], Installation("z", "m2", "2", 199))
    registry = DatabaseRegistry(state)
    assert list(registry.installations_at("a")) == [FIRST]
    assert not registry.admits("g2")


def test_what_another_wrote_is_seen_after_a_refresh(state: State) -> None:
    mine, registrar = DatabaseRegistry(state), Registrar(state)
    assert not mine.refresh()
    registrar.put_point(POINTS[1], 1, "token:aa")
    assert mine.point("a") is None
    assert mine.refresh()
    assert mine.point("a") == POINTS[1]
    registrar.put_device(DEVICES[1], FIRST)
    closed = structs.replace(FIRST, valid_to=150)
    registrar.put_device(DEVICES[1], closed)
    registrar.put_device(DEVICES[2], Installation("a", "spare", "3", 150))
    mine.refresh()
    assert list(mine.installations_at("a")) == [closed, Installation("a", "spare", "3", 150)]
    assert mine.installations_of("m1") == [closed]


def test_a_fleet_taken_in_again_changes_nothing(state: State) -> None:
    registry, registrar = DatabaseRegistry(state), Registrar(state)
    devices = [structs.replace(each, gateway="g2") for each in DEVICES]
    wanted = Wanted(["g1", "g2"], POINTS, devices, [FIRST, SECOND, LATER], {"m1": ["g1"]})
    assert [registrar.take_in(wanted, now) for now in (1, 2)] == [3, 0]
    registry.refresh()
    assert [registry.was_assigned(gateway, "m1") for gateway in ("g1", "g2", "g3")] == [True, True, False]
    assert not registry.was_assigned("g1", "m2")
    assert Assignments(state).of("m1") == [Assignment("m1", "g1", 99, 100), Assignment("m1", "g2", 100)]


def test_a_meter_that_a_file_gives_to_another_gateway_moves_there_now(state: State) -> None:
    registry, registrar = DatabaseRegistry(state), Registrar(state)
    registrar.take_in(Wanted(["g1", "g2"], POINTS, DEVICES[:1], [SECOND]), 1)
    registrar.take_in(Wanted([], [], [structs.replace(DEVICES[0], gateway="g2")], []), 700)
    registry.refresh()
    assert Assignments(state).of("m2") == [Assignment("m2", "g1", 200, 700), Assignment("m2", "g2", 700)]
    found = registry.device("m2")
    assert found is not None
    assert found.gateway == "g2"
    assert registry.was_assigned("g1", "m2")


def test_an_assignment_changes_the_device_and_is_seen(state: State) -> None:
    registry = DatabaseRegistry(state)
    Registrar(state).put_device(DEVICES[1])
    Assignments(state).assign("m1", "g9", 5)
    registry.refresh()
    assert registry.was_assigned("g9", "m1")
    Registrar(state).put_device(structs.replace(DEVICES[1], serial="77"))
    registry.refresh()
    found = registry.device("m1")
    assert found is not None
    assert (found.serial, found.gateway) == ("77", "g9")


def test_a_revoked_gateway_is_admitted_no_more_until_it_is_made_anew(state: State) -> None:
    registry, gateways = DatabaseRegistry(state), Gateways(state)
    assert gateways.create("g1", 1)
    assert not gateways.create("g1", 2)
    seen = []
    for step in (lambda: None, lambda: gateways.revoke("g1", 3), lambda: gateways.create("g1", 4)):
        step()
        registry.refresh()
        seen.append(registry.admits("g1"))
    assert seen == [True, False, True]
    assert not gateways.revoke("g2", 5)
