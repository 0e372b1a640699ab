"""Values of points as they are now, from a simulated meter: exact, stamped, and without what the meter lacks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.dlms_profile import DlmsProfile, load_dlms_profile, read_dlms_profile
from collector.drivers.dlms_reader import DlmsHoles, DlmsReader
from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.references import Attribute
from metering.errors import RefusedError
from metering.model import Block, Kind, Source
from metering.values import to_decimal
from simulators.dlms_faults import DlmsFault, DlmsFaults
from simulators.dlms_objects import CosemObject, scaler_unit
from simulators.dlms_security import READER

Open = Callable[..., Any]

HEAD = 'maker = "A"\nmodel = "B"\nphases = 1\nsources = ["s"]\n'


def profile_of(tmp_path: Path, points: str, more: str = "") -> DlmsProfile:
    path = tmp_path / "dlms_mine.toml"
    path.write_text(f"{HEAD}{more}\npoints = [\n{points}\n]\n")
    return read_dlms_profile(path)


async def read(site: Any, reader: DlmsReader, driver: Any, slot: int | None = None) -> list[Block]:  # noqa: ANN401 - of the fixture
    blocks: list[Block] = []
    await site.work(driver, lambda talk: reader.read(talk, slot=slot, source=Source.POLL, into=blocks))
    return blocks


def shown(blocks: list[Block]) -> dict[tuple[str, Kind], str]:
    return {
        (column.obis, block.layout.kind): f"{to_decimal(value, column.scale, column.number)} {column.unit}".strip()
        for block in blocks
        for column, value in zip(block.layout.columns, block.values, strict=True)
        if value is not None
    }


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_registers_are_what_the_meter_shows(open_site: Open, framing: str):
    async with open_site(framing=framing) as site:
        driver = site.driver()
        reader = DlmsReader(driver, interval=900)
        blocks = await read(site, reader, driver, slot=site.bus._clock())
        values = shown(blocks)
        now = site.meter.now()
        wh = site.meter.meter.energies(now)["1-0:1.8.0*255"] // 1_000_000
        assert values["1-0:1.8.0*255", Kind.REGISTER] == f"{wh / 1000:.3f} kWh"
        assert values["1-0:32.7.0*255", Kind.INSTANTANEOUS].endswith(" V")
        assert ("1-0:1.6.0*255", Kind.MAXIMUM_DEMAND) in values
        at = int(values["1-0:1.6.0*255", Kind.INSTANTANEOUS].split()[0])
        assert 0 < at <= now // 1_000_000
        # The clock of this site stands still, but not the time that an exchange takes.
        assert all(now - 1_000_000 < block.measured_at < block.received_at == now for block in blocks)
        assert {block.layout.interval for block in blocks} == {900}


async def test_the_same_values_come_one_by_one_and_in_lists(open_site: Open):
    profile = load_dlms_profile("dlms_generic")
    async with open_site() as site:
        results = []
        for size in (1, 3, 16):
            model = profile.model_copy(update={"list_size": size})
            driver = site.driver(model)
            results.append(shown(await read(site, DlmsReader(driver), driver)))
        assert results[0] == results[1] == results[2]


async def test_what_the_meter_lacks_is_told_once_and_asked_again_when_forgotten(open_site: Open, tmp_path: Path):
    points = """
    {name = "e", obis = "1-0:1.8.0*255", unit = "kWh"},
    {name = "not_there", obis = "1-0:1.8.77*255", unit = "kWh"},
    {name = "no_number", class = 1, obis = "0-0:42.0.0*255", unit = "", kind = "instantaneous"},
    {name = "wrong_unit", obis = "1-0:2.8.0*255", unit = "V"},
    """
    told: list[tuple[str, DlmsHoles]] = []
    async with open_site() as site:
        driver = site.driver(profile_of(tmp_path, points))
        reader = DlmsReader(driver, on_holes=lambda meter, holes: told.append((meter, holes)))
        for _ in range(2):
            assert [block.values for block in await read(site, reader, driver)] != []
        assert [point.name for point in reader.points] == ["e"]
        assert [(meter, [name for name, _ in holes.points]) for meter, holes in told] == [
            ("m1", ["not_there", "no_number", "wrong_unit"])
        ]
        assert "no number" in str(reader.holes)
        assert "the meter says kWh, the profile V" in str(reader.holes)
        reader.forget()
        assert not reader.holes
        assert len(reader.points) == 4


async def test_a_meter_that_has_none_of_the_points_is_another_model(open_site: Open, tmp_path: Path):
    async with open_site() as site:
        driver = site.driver(profile_of(tmp_path, '{name = "e", obis = "1-0:1.8.77*255", unit = "kWh"}'))
        reader = DlmsReader(driver)
        with pytest.raises(RefusedError, match="none of the points") as caught:
            await read(site, reader, driver)
        assert caught.value.meter == "m1"
        assert not reader.holes


async def test_scalers_are_read_in_each_association(open_site: Open):
    """A meter that was programmed between two reads is not billed ten times."""
    async with open_site() as site:
        driver = site.driver()
        reader = DlmsReader(driver, ["active_energy_import"])
        scales = []
        for scaler in (0, 1, -1):
            site.meter.objects["1-0:1.8.0*255"].read[3] = scaler_unit(scaler, 30)
            scales += [block.layout.columns[0].scale for block in await read(site, reader, driver)]
        assert scales == [-3, -2, -4]
        assert set(driver.scalers) == {Attribute(3, "1-0:1.8.0*255", 3)}
        driver.firmware = "an older one"
        await site.work(driver, driver.identify)
        assert not driver.scalers


async def test_a_forecast_knows_the_exchanges_of_a_read(open_site: Open):
    async with open_site() as site:
        reader = DlmsReader(site.driver())
        assert len(reader.exchanges()) == 5 + 2
        assert all(exchange.pdu and exchange.reply_length for exchange in reader.exchanges())


async def test_a_meter_that_refuses_lists_after_all_is_asked_one_by_one(open_site: Open):
    faults = DlmsFaults((DlmsFault("exception", every=3, times=1),))  # association, firmware, scalers
    async with open_site(faults=faults) as site:
        driver = site.driver(client=READER, authentication="low", security="none")
        reader = DlmsReader(driver)
        values = shown(await read(site, reader, driver))
        assert len(values) == len(reader.points)
        assert ("1-0:1.8.0*255", Kind.REGISTER) in values


async def test_a_status_is_a_word_of_bits(open_site: Open, tmp_path: Path):
    points = """
    {name = "e", obis = "1-0:1.8.0*255", unit = "kWh"},
    {name = "alarms", class = 1, obis = "0-0:97.98.0*255", type = "status", unit = "", kind = "instantaneous"},
    """
    for word in (Data(Tag.BIT_STRING, "1001"), axdr.u32(9), axdr.octets(b"\x00\x09")):
        async with open_site() as site:
            site.meter.add([CosemObject(1, "0-0:97.98.0*255", {2: word})])
            driver = site.driver(profile_of(tmp_path, points))
            values = shown(await read(site, DlmsReader(driver), driver))
            assert values["0-0:97.98.0*255", Kind.INSTANTANEOUS] == "9"


async def test_the_logical_device_name_is_told(open_site: Open):
    async with open_site() as site:
        driver = site.driver()
        assert await site.work(driver, driver.device_name) == "MGT70000123"
