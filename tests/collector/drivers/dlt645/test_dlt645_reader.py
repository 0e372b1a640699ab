"""The reader against simulated meters: values, blocks, holes, faults, and who the meter is."""

import pytest

from collector.dlt645_profile import load_dlt645_profile
from collector.drivers.dlt645 import Dlt645Driver, Dlt645Reader
from collector.drivers.dlt645_discovery import discover
from metering.errors import ConfigError, FrameError, MeterError, NoAnswerError, RefusedError
from metering.model import Block, Kind, Source
from metering.values import to_decimal
from simulators.dlt645_faults import Dlt645Fault
from tests.collector.drivers.dlt645.simulated_line import Site

ADDRESS = "000000004321"


def by_obis(blocks: list[Block]) -> dict[str, object]:
    return {
        column.obis: to_decimal(value, column.scale, column.number)
        for block in blocks
        for column, value in zip(block.layout.columns, block.values, strict=True)
    }


@pytest.mark.parametrize("profile", ["dlt645_2007", "dlt645_2007_3p", "dlt645_1997"])
async def test_every_point_of_a_profile_is_read_as_the_meter_shows_it(site: Site, profile: str):
    meter = site.add(profile)
    reader = Dlt645Reader(meter.profile, "m1", ADDRESS, interval=900)
    blocks: list[Block] = []
    await reader.read(site.talk(), slot=site.now, source=Source.POLL, into=blocks)
    values = by_obis(blocks)
    assert set(values) == {point.obis for point in meter.profile.points}
    assert not reader.holes
    total = values["1-0:1.8.0*255"]
    assert total > 5000
    assert abs(sum(values[f"1-0:1.8.{t}*255"] for t in range(1, 5)) - total) < 0.04 + 0.01
    assert len(site.asked) == len(reader.exchanges()) < len(meter.profile.points)
    assert all(block.measured_at % 1000 == 0 and block.slot for block in blocks)
    assert {block.layout.interval for block in blocks} == {900}


async def test_the_fewest_requests_are_blocks_where_two_points_are_wanted(site: Site):
    site.add()
    profile = load_dlt645_profile("dlt645_2007_3p")
    names = ["active_import", "active_export", "voltage_l1", "voltage_l3", "frequency"]
    reader = Dlt645Reader(profile, "m1", ADDRESS, names)
    blocks: list[Block] = []
    await reader.read(site.talk(), slot=None, source=Source.ON_DEMAND, into=blocks)
    assert [frame.data[::-1].hex() for frame in site.asked] == ["00010000", "00020000", "0201ff00", "02800002"]
    assert [len(block.values) for block in blocks] == [1, 1, 2, 1]
    assert blocks[2].layout.kind is Kind.INSTANTANEOUS
    assert [point.name for point in reader.points] == names


async def test_a_refused_block_is_read_item_by_item_and_a_refused_item_is_a_hole(site: Site):
    site.add(made={"absent": frozenset({"0001FF00", "00010400", "02800004"})})
    found = []
    profile = load_dlt645_profile("dlt645_2007_3p")
    reader = Dlt645Reader(profile, "m1", ADDRESS, on_holes=lambda device, holes: found.append((device, holes)))
    blocks: list[Block] = []
    await reader.read(site.talk(), slot=None, source=Source.POLL, into=blocks)
    assert set(by_obis(blocks)) == {p.obis for p in profile.points if p.name not in ("active_import_t4", "demand")}
    assert reader.holes.blocks == {"0001FF00"}
    assert reader.holes.points == {"active_import_t4", "demand"}
    assert found == [("m1", reader.holes)]
    before = len(site.asked)
    await reader.read(site.talk(), slot=None, source=Source.POLL, into=blocks)
    assert len(site.asked) - before == len(reader.exchanges())
    reader.forget()
    assert not reader.holes


async def test_a_meter_that_refuses_everything_teaches_nothing(site: Site):
    site.add(faults=[Dlt645Fault("error", code=2)])
    reader = Dlt645Reader(load_dlt645_profile("dlt645_2007_3p"), "m1", ADDRESS)
    with pytest.raises(RefusedError) as caught:
        await reader.read(site.talk(), slot=None, source=Source.POLL, into=[])
    assert caught.value.meter == "m1"
    assert not reader.holes
    assert len(site.asked) < 40


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Dlt645Fault("silent"), NoAnswerError),
        (Dlt645Fault("damaged"), FrameError),
        (Dlt645Fault("wrong_address"), FrameError),
        (Dlt645Fault("lying_length"), FrameError),
        (Dlt645Fault("lying_length", count=1), FrameError),
        (Dlt645Fault("half"), FrameError),
        (Dlt645Fault("endless"), FrameError),
        (Dlt645Fault("error", code=0x40), RefusedError),
        (Dlt645Fault("error", code=0x04), RefusedError),
        (Dlt645Fault("echo"), None),
        (Dlt645Fault("noise", count=300), None),
        (Dlt645Fault("late", seconds=1), None),
    ],
)
@pytest.mark.parametrize("pieces", [1, 1000])
async def test_a_fault_is_a_named_error_or_does_not_matter(
    site: Site, fault: Dlt645Fault, error: type | None, pieces: int
):
    site.add(faults=[fault])
    site.pieces = pieces
    reader = Dlt645Reader(load_dlt645_profile("dlt645_2007_3p"), "m1", ADDRESS, ["voltage_l1"])
    blocks: list[Block] = []
    if error is None:
        await reader.read(site.talk(), slot=None, source=Source.POLL, into=blocks)
        assert len(blocks) == 1
    else:
        with pytest.raises(error):
            await reader.read(site.talk(), slot=None, source=Source.POLL, into=blocks)
    assert len(site.asked) <= 256


async def test_what_was_read_before_an_error_is_not_lost(site: Site):
    meter = site.add()
    meter.faults.replace(script=[None, None, Dlt645Fault("silent")])
    blocks: list[Block] = []
    with pytest.raises(NoAnswerError):
        await Dlt645Reader(meter.profile, "m1", ADDRESS).read(site.talk(), slot=None, source=Source.POLL, into=blocks)
    assert len(blocks) == 2


async def test_the_meter_tells_its_address(site: Site):
    meter = site.add()
    driver = Dlt645Driver(meter.profile, "m1", ADDRESS)
    async with driver.talk(site.transact) as talk:
        assert await driver.identify(talk) == ADDRESS
    by_wildcard = meter.profile.model_copy(update={"identity": "wildcard"})
    assert await Dlt645Driver(by_wildcard, "m1", ADDRESS).identify(site.talk()) == ADDRESS
    without = meter.profile.model_copy(update={"identity": ""})
    assert await Dlt645Driver(without, "m1", ADDRESS).identify(site.talk()) is None
    with pytest.raises(ConfigError, match="not an address"):
        Dlt645Driver(meter.profile, "m1", "4321")


async def test_one_meter_on_a_line_is_found_with_one_request(site: Site):
    site.add()
    heard = await discover(site.transact, load_dlt645_profile("dlt645_2007"))
    assert (heard.addresses, heard.requests, heard.complete) == ([ADDRESS], 1, True)


async def test_meters_that_answer_at_once_are_told_apart_by_shortened_addresses(site: Site):
    addresses = ["000000000161", "000000004321", "123456784321"]
    for address in addresses:
        site.add(address=address)
    heard = await discover(site.transact, load_dlt645_profile("dlt645_2007"))
    assert heard.addresses == addresses
    assert heard.complete
    few = await discover(site.transact, load_dlt645_profile("dlt645_2007"), max_requests=5)
    assert not few.complete
    assert few.requests == 5


async def test_an_empty_line_is_told_with_one_request(site: Site):
    heard = await discover(site.transact, load_dlt645_profile("dlt645_2007"))
    assert (heard.addresses, heard.requests) == ([], 1)


async def test_errors_name_the_meter(site: Site):
    site.add(faults=[Dlt645Fault("half")])
    with pytest.raises(MeterError) as caught:
        await Dlt645Driver(load_dlt645_profile("dlt645_2007"), "m1", ADDRESS).identify(site.talk())
    assert caught.value.meter == "m1"
