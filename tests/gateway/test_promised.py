"""What the profiles of a meter promise: as far back as they reach, and never twice."""

from pathlib import Path

import pytest

from collector.capabilities import Depth
from gateway.lines import make_bus_meters
from gateway.meters import BusMeter
from gateway.promised import Promised
from gateway.settings import GatewayFile
from metering.model import SECOND, Expectation, Kind, Source

DAY = 86_400 * SECOND
NOW = 20_000 * DAY
IMPORT, EXPORT, DEMAND = "1-0:1.8.0*255", "1-0:2.8.0*255", "1-0:1.6.0*255"


class LoadProfile:
    """A profile whose shape is set here."""

    piece_rows = 10
    row_s = 0.1

    def __init__(self, name: str = "load", interval: int = 900, depth: Depth = Depth(days=60)) -> None:  # noqa: B008 - a constant
        self.name = name
        self.interval = interval
        self.depth = depth
        self.channels: tuple[tuple[Kind, tuple[str, ...]], ...] = ((Kind.REGISTER, (IMPORT,)),)

    async def prepare(self, talk: object) -> None:
        raise NotImplementedError

    async def read_profile(self, talk: object, start: int, end: int, *, into: list[object]) -> None:
        raise NotImplementedError


@pytest.fixture
def meter() -> BusMeter:
    table = {"id": "m", "profile": "eastron_sdm630", "point": "p", "region": "r", "bus": "b", "unit": 1}
    file = GatewayFile.model_validate(
        {
            "gateway": {"id": "g", "data": "unused"},
            "schedule": {"registers": "off", "instantaneous": "off"},
            "bus": [{"id": "b", "kind": "tcp", "host": "127.0.0.1"}],
            "meter": [table],
        }
    )
    return make_bus_meters(file, lambda *_: None)["m"]


def promised(path: Path, meter: BusMeter) -> Promised:
    return Promised(path / "promises.json", [meter], [], {})


def told(promised: Promised, now: int = NOW) -> list[Expectation]:
    found = promised.settle(now)
    promised.keep()
    return found


def promise(since: int, *obis: str, interval: int = 900, until: int | None = None) -> Expectation:
    return Expectation("m", Kind.REGISTER, Source.PROFILE, interval, obis, since, until)


@pytest.mark.parametrize(
    ("depth", "installed", "since"),
    [
        (Depth(days=60), 0, NOW - 60 * DAY),
        (Depth(entries=96), 0, NOW - DAY),
        (Depth(), 0, NOW),
        (Depth(days=60), NOW - 3 * DAY, NOW - 3 * DAY),
    ],
    ids=["days", "entries", "not known", "installed later"],
)
def test_a_profile_is_promised_as_far_back_as_it_reaches(
    tmp_path: Path, meter: BusMeter, depth: Depth, installed: int, since: int
):
    meter.settings = meter.settings.model_copy(update={"installed": installed})
    meter.profiles = [LoadProfile(depth=depth)]
    promises = promised(tmp_path, meter)
    assert told(promises) == []  # the meter has not yet said what it holds
    meter.prepared |= {"load"}
    assert told(promises) == [promise(since + 1, IMPORT)]  # the row of that moment is of the time before
    assert told(promises, NOW + DAY) == []


def test_what_was_promised_stays_so_until_the_meter_is_asked_again_after_a_start(tmp_path: Path, meter: BusMeter):
    meter.profiles = [LoadProfile(), LoadProfile("daily", 86_400)]
    meter.prepared |= {"load", "daily"}
    assert len(told(promised(tmp_path, meter))) == 2
    again = promised(tmp_path, meter)
    meter.prepared = frozenset()
    assert told(again, NOW + DAY) == []
    meter.prepared |= {"daily"}
    assert told(again, NOW + DAY) == []
    meter.prepared |= {"load"}
    assert told(again, NOW + DAY) == []


def test_a_profile_that_was_set_up_anew_is_promised_from_then_on(tmp_path: Path, meter: BusMeter):
    profile = LoadProfile()
    meter.profiles = [profile]
    meter.prepared |= {"load"}
    promises = promised(tmp_path, meter)
    told(promises)
    profile.channels = ((Kind.REGISTER, (IMPORT, EXPORT)),)
    later = NOW + DAY
    ended = promise(NOW - 60 * DAY + 1, IMPORT, until=later)
    assert told(promises, later) == [ended, promise(later, IMPORT, EXPORT)]
    profile.interval = 1800
    latest = later + DAY
    ended = promise(later, IMPORT, EXPORT, until=latest)
    assert told(promises, latest) == [ended, promise(latest, IMPORT, EXPORT, interval=1800)]


def test_rows_that_come_when_the_meter_makes_them_are_not_promised(tmp_path: Path, meter: BusMeter):
    meter.profiles = [LoadProfile("billing", 0)]
    meter.prepared |= {"billing"}
    assert told(promised(tmp_path, meter)) == []
