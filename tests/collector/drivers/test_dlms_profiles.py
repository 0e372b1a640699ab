"""Every DLMS meter model: the answers that stand in its file give the values, rows and events that it says."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from collector.dlms_profile import (
    DlmsProfile,
    DlmsTest,
    dlms_profile_names,
    load_dlms_profile,
    read_dlms_profile,
)
from collector.dlms_tables import ClockSpec, EventsSpec, ProfileSpec
from collector.drivers.dlms_rows import Grid, decode_rows, mark_adjusted, to_blocks, to_events
from collector.drivers.dlms_shape import Shape, make_shape, parse_objects, parse_scaler_unit, scaler_of
from collector.drivers.dlms_times import MeterTime
from collector.drivers.dlms_values import identity_text, number_of, scale_of, time_of
from collector.protocols.dlms import axdr
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.get import GetListResponse, GetResponse
from collector.protocols.dlms.references import DataAccessResult
from metering.model import SECOND, Block
from metering.quality import codes
from metering.values import to_text

NAMES = dlms_profile_names()
TESTS = [(name, test) for name in NAMES for test in load_dlms_profile(name).test]


@pytest.mark.parametrize(("name", "test"), TESTS, ids=[f"{name}: {test.name}" for name, test in TESTS])
def test_the_frames_of_a_profile_give_the_values_it_says(name: str, test: DlmsTest):
    check_frames(load_dlms_profile(name), test)


def check_frames(profile: DlmsProfile, test: DlmsTest) -> None:
    assert bool(test.values) + bool(test.rows) + bool(test.events) + bool(test.identity) == 1
    if test.values:
        assert read_values(profile, test) == test.values
    elif test.identity:
        assert identity_text(axdr.decode_all(raw_of(test.reply))) == test.identity
    elif test.rows:
        assert read_rows(profile, test) == list(test.rows)
    else:
        assert read_events(profile, test) == list(test.events)


def raw_of(reply: str) -> bytes:
    apdu = parse_apdu(bytes.fromhex(reply))
    assert isinstance(apdu, GetResponse)
    assert isinstance(apdu.data, bytes)
    return apdu.data


def read_values(profile: DlmsProfile, test: DlmsTest) -> dict[str, str]:
    time = MeterTime(profile.clock or ClockSpec(), ZoneInfo(test.zone))
    apdu = parse_apdu(bytes.fromhex(test.reply))
    results = apdu.results if isinstance(apdu, GetListResponse) else (axdr.decode_all(raw_of(test.reply)),)
    points = {point.name: point for point in profile.points}
    found = {}
    for name, result in zip(test.reads, results, strict=True):
        point = points[name]
        if isinstance(result, DataAccessResult):
            found[name] = result.name.lower().replace("_", "-")
        elif point.type == "time":
            found[name] = str(time_of(result, time))
        else:
            scaler = test.scalers.get(point.obis)
            scale = scale_of(point, parse_scaler_unit(axdr.decode_all(raw_of(scaler))) if scaler else None)
            value, number = number_of(result)
            found[name] = to_text(value, scale, number)
    return found


def shape_of(spec: ProfileSpec | EventsSpec, test: DlmsTest, period: int) -> Shape:
    objects = parse_objects(axdr.decode_all(raw_of(test.objects)))
    scalers = {}
    for item in objects:
        place = scaler_of(item)
        if place is not None and item.obis in test.scalers:
            scalers[place] = parse_scaler_unit(axdr.decode_all(raw_of(test.scalers[item.obis])))
    null = spec.null if isinstance(spec, ProfileSpec) else "none"
    return make_shape(objects, spec.columns, scalers, null, period=period)


def read_rows(profile: DlmsProfile, test: DlmsTest) -> list[str]:
    spec = next(spec for spec in profile.profile if spec.name == test.profile)
    period = int(test.period or spec.period)
    time = MeterTime(profile.clock or ClockSpec(), ZoneInfo(test.zone))
    shape = shape_of(spec, test, period)
    raw = raw_of(test.reply)
    rows = mark_adjusted(decode_rows(raw, shape, time, period), period)
    assert rows.untold == 0
    grid = Grid(period, beginning=spec.stamps == "beginning", tolerance=int(spec.tolerance * SECOND))
    shown: dict[int, list[str]] = {}
    flags: dict[int, list[str]] = {}
    for block in to_blocks(rows, raw, shape, grid, time, "m1", 0):
        shown.setdefault(block.measured_at, []).extend(columns_of(block))
        flags[block.measured_at] = [
            code.name for code in codes(block.quality_of(0)) if code.name not in ("valid", "not-available")
        ]
    return [" ".join([stamp(at), *texts, *flags[at]]) for at, texts in shown.items()]


def columns_of(block: Block) -> list[str]:
    found = []
    for column, value in zip(block.layout.columns, block.values, strict=True):
        text = "not-available" if value is None else f"{to_text(value, column.scale, column.number)} {column.unit}"
        found.append(f"{column.obis}={text}".strip())
    return found


def read_events(profile: DlmsProfile, test: DlmsTest) -> list[str]:
    spec = next(spec for spec in profile.events if spec.name == test.profile)
    time = MeterTime(profile.clock or ClockSpec(), ZoneInfo(test.zone))
    shape = shape_of(spec, test, 0)
    rows = decode_rows(raw_of(test.reply), shape, time, 0)
    found = []
    for event in to_events(rows, shape, spec, "m1", 0):
        details = [value if key == "code" else f"{key}={value}" for key, value in event.detail.items() if key != "log"]
        found.append(" ".join([stamp(event.time), event.name, *details]))
    return found


def stamp(us: int) -> str:
    return datetime.fromtimestamp(us / SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_the_example_in_the_documentation_loads_and_proves_itself(tmp_path: Path):
    text = (Path(__file__).parents[3] / "docs" / "adding-a-dlms-meter.md").read_text()
    path = tmp_path / "dlms_acme_d1.toml"
    path.write_text(text.split("```toml\n")[1].split("```")[0])
    profile = read_dlms_profile(path)
    assert len(profile.test) == 2
    for test in profile.test:
        check_frames(profile, test)
