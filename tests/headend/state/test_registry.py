import pytest

from headend.registry import MemoryRegistry
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
    DatabaseRegistry(state).replace(POINTS, DEVICES, [LATER, SECOND, FIRST])
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
    registry = DatabaseRegistry(state)
    registry.replace(POINTS, DEVICES, [FIRST])
    with pytest.raises(ConfigError, match="overlaps"):
        registry.replace(POINTS, DEVICES, [FIRST, Installation("a", "m2", "2", 199)])
    assert list(DatabaseRegistry(state).installations_at("a")) == [FIRST]


def test_what_another_wrote_is_seen_after_a_refresh(state: State) -> None:
    mine, other = DatabaseRegistry(state), DatabaseRegistry(state)
    other.replace(POINTS, [], [])
    assert mine.point("a") is None
    mine.refresh()
    assert mine.point("a") == POINTS[1]
