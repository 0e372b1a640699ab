import pytest

from headend.registry import MemoryRegistry, covers, installation_on
from headend.spans import Span, spans_of_device, spans_of_point
from metering.errors import ConfigError
from metering.model import Device, Installation, MeterPoint

POINTS = [MeterPoint("b", "js/njx"), MeterPoint("a", "js/nj/st1")]
DEVICES = [Device("m1", "1", "x"), Device("m2", "2", "x"), Device("spare", "3", "x")]
FIRST = Installation("a", "m1", "1", 100, 200)
SECOND = Installation("a", "m2", "2", 200)
LATER = Installation("b", "m1", "1", 300)


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry(POINTS, DEVICES, [LATER, SECOND, FIRST])


@pytest.mark.parametrize(
    ("prefixes", "region", "inside"),
    [
        (("js/nj",), "js/nj", True),
        (("js/nj",), "js/nj/st12", True),
        (("js/nj/",), "js/nj/st12", True),
        (("js/nj",), "js/njx", False),
        (("js/nj",), "js", False),
        (("",), "js", True),
        ((), "js", False),
        (("zj", "js"), "js/nj", True),
    ],
)
def test_a_prefix_covers_whole_path_segments(prefixes: tuple[str, ...], region: str, *, inside: bool) -> None:
    assert covers(prefixes, region) is inside


def test_points_and_devices_come_by_id_and_region(registry: MemoryRegistry) -> None:
    assert [point.id for point in registry.points([""])] == ["a", "b"]
    assert [point.id for point in registry.points(["js/nj"])] == ["a"]
    assert [device.id for device in registry.devices(["js/nj"])] == ["m1", "m2"]
    assert [device.id for device in registry.devices(["js/njx"])] == ["m1"]
    assert [device.id for device in registry.devices([""])] == ["m1", "m2", "spare"]
    assert registry.point("c") is None
    assert registry.device("c") is None
    assert registry.installations_at("c") == ()


def test_an_installation_holds_from_its_first_instant_to_before_its_last(registry: MemoryRegistry) -> None:
    here = registry.installations_at("a")
    assert [installation_on(here, at) for at in (99, 100, 199, 200, 10**9)] == [None, FIRST, FIRST, SECOND, SECOND]


def test_a_point_resolves_to_the_devices_that_hung_there(registry: MemoryRegistry) -> None:
    assert spans_of_point(registry, "a", 150, 250) == [Span("m1", FIRST, 150, 200), Span("m2", SECOND, 200, 250)]
    assert spans_of_point(registry, "a", 0, 100) == []


def test_a_device_is_seen_only_while_it_hung_in_the_region(registry: MemoryRegistry) -> None:
    assert spans_of_device(registry, "m1", 0, 400, ["js/nj"]) == [Span("m1", FIRST, 100, 200)]
    assert spans_of_device(registry, "m1", 0, 400, ["js/njx"]) == [Span("m1", LATER, 300, 400)]
    assert spans_of_device(registry, "m1", 0, 400, ["zj"]) == []


def test_who_sees_everything_sees_the_times_between_installations(registry: MemoryRegistry) -> None:
    assert spans_of_device(registry, "m1", 0, 400, [""]) == [
        Span("m1", None, 0, 100),
        Span("m1", FIRST, 100, 200),
        Span("m1", None, 200, 300),
        Span("m1", LATER, 300, 400),
    ]
    assert spans_of_device(registry, "spare", 0, 400, [""]) == [Span("spare", None, 0, 400)]


@pytest.mark.parametrize(
    ("installations", "message"),
    [
        ([Installation("c", "m1", "1", 0)], "no such meter point"),
        ([Installation("a", "m9", "1", 0)], "no such device"),
        ([Installation("a", "m1", "1", 5, 5)], "ends before it begins"),
        ([FIRST, Installation("a", "m2", "2", 199)], "overlaps"),
        ([FIRST, Installation("b", "m1", "1", 199)], "overlaps"),
        ([Installation("a", "m1", "1", 0, ct_ratio="0")], "not a ratio"),
        ([Installation("a", "m1", "1", 0, pt_ratio="many")], "not a ratio"),
        ([Installation("a", "m1", "1", 0, initial={"1-0:1.8.0": "NaN"})], "not a register reading"),
    ],
)
def test_installations_that_contradict_are_refused(installations: list[Installation], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MemoryRegistry(POINTS, DEVICES, installations)


def test_an_id_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="'b' stands there twice"):
        MemoryRegistry([*POINTS, POINTS[0]], DEVICES, [])
