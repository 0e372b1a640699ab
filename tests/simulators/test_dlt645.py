"""Simulated DL/T 645 meters: described in a fleet file, read over TCP and a timed serial line through the bus."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Never

import pytest

from collector.bus import Bus
from collector.dlt645_profile import load_dlt645_profile
from collector.drivers.dlt645 import Dlt645Driver, Dlt645Reader
from collector.drivers.dlt645_clock import Dlt645Clock
from collector.drivers.dlt645_discovery import discover
from collector.drivers.dlt645_records import LoadRecordReader
from collector.exchange import Answer, Exchange, Transact
from collector.lanes import Lane
from collector.links import SerialStreamLink, TcpStreamLink
from collector.protocols.dlt645.frame import build_frame, parse_frame
from collector.protocols.dlt645.identifiers import di_bytes
from collector.protocols.dlt645.values import decode_number, parse_format
from metering import timing
from metering.errors import ConfigError, FrameError, MeterError
from metering.model import SECOND, Block, Source
from metering.values import to_decimal
from simulators.dlt645_faults import Dlt645Fault
from simulators.dlt645_meter import Dlt645Made
from simulators.dlt645_values import tariff
from simulators.fleet import Simulation
from simulators.fleet_file import load_fleet

SITE = """
[[dlt645]]
id = "box"
[[dlt645.meter]]
id = "one"
address = "000000004321"
start_kwh = 1234.5
offset_s = 100
event = [{log = "power-failure", start = 2026-09-01T00:00:00Z, end = 2026-09-01T01:00:00Z}]
[[dlt645.meter]]
id = "old"
address = "000000000161"
edition = "1997"
fault = [{kind = "damaged", every = 2}]

[[dlt645]]
id = "line"
transport = "serial"
baud = 9600
[[dlt645.meter]]
id = "three"
address = "000000000003"
phases = 1
[[dlt645.meter]]
id = "four"
address = "000000000004"
turnaround_ms = 30
"""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Simulation]:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    simulation = Simulation.load(path)
    await simulation.start()
    yield simulation
    await simulation.close()


def tcp(site: Simulation) -> Bus:
    host, port = site.places["box"]
    return Bus(TcpStreamLink(host, port))


def serial(site: Simulation) -> Bus:
    return Bus(SerialStreamLink(str(site.places["line"]), 9600, "8E1", opened="8N1"))


async def read(bus: Bus, meter: str, profile: str, address: str, points: tuple[str, ...] = ()) -> dict[str, object]:
    """Read a meter's points through the bus; values by OBIS code."""
    model = load_dlt645_profile(profile)
    driver, reader = Dlt645Driver(model, meter, address), Dlt645Reader(model, meter, address, points)
    blocks: list[Block] = []

    async def work(transact: Transact) -> None:
        async with driver.talk(transact) as talk:
            await reader.read(talk, slot=None, source=Source.POLL, into=blocks)

    await bus.submit(Lane.SCHEDULE, meter, work)
    return {
        column.obis: to_decimal(value, column.scale, column.number)
        for block in blocks
        for column, value in zip(block.layout.columns, block.values, strict=True)
    }


async def test_meters_of_both_editions_behind_one_endpoint_are_read(site: Simulation):
    bus = tcp(site)
    try:
        values = await read(bus, "one", "dlt645_2007_3p", "000000004321")
        assert len(values) == 47
        assert values["1-0:1.8.0*255"] > 1234
        for _ in range(2):  # the second answer is damaged, and is asked for again
            assert len(await read(bus, "old", "dlt645_1997", "000000000161", ("active_import",))) == 1
        assert site.dlt645.meters["old"].asked == 3
    finally:
        await bus.close()


async def test_several_meters_of_one_serial_line_are_read_at_its_speed(site: Simulation):
    bus = serial(site)
    try:
        three = await read(bus, "three", "dlt645_2007", "000000000003", ("active_import", "voltage_l1"))
        four = await read(bus, "four", "dlt645_2007_3p", "000000000004", ("voltage_l1", "voltage_l2", "voltage_l3"))
        assert set(three) == {"1-0:1.8.0*255", "1-0:32.7.0*255"}
        assert all(220 < volts < 240 for volts in four.values())
    finally:
        await bus.close()
    assert site.dlt645.lines["line"].line.counters.collisions == 0


async def test_load_records_come_over_tcp_in_follow_up_frames(site: Simulation):
    bus = tcp(site)
    profile = load_dlt645_profile("dlt645_2007_3p")
    records = profile.load_record.model_copy(update={"piece": 24})
    reader = LoadRecordReader(profile, "one", records, records.classes[3])
    driver = Dlt645Driver(profile, "one", "000000004321")
    blocks: list[Block] = []

    async def work(transact: Transact) -> None:
        async with driver.talk(transact) as talk:
            await reader.read_newest(talk, 24, into=blocks)

    try:
        await bus.submit(Lane.BACKFILL, "one", work)
    finally:
        await bus.close()
    assert len(blocks) == 24
    assert all(b.slot - a.slot == 900 * SECOND for a, b in pairwise(blocks))


async def test_the_broadcast_time_sets_a_meter_over_the_wire(site: Simulation):
    profile = load_dlt645_profile("dlt645_2007_3p")
    meter = site.dlt645.meters["one"]
    noon = 1_795_493_220 * SECOND  # 2026-11-24T04:07:00Z, noon and a little in Shanghai
    ahead = noon - timing.now()
    meter.clock = lambda: timing.now() + ahead
    clock = Dlt645Clock(profile, "one", profile.clock, now=meter.clock)
    driver = Dlt645Driver(profile, "one", "000000004321")
    bus = tcp(site)

    async def work(transact: Transact) -> None:
        async def shifted(exchange: Exchange) -> Answer:
            answer = await transact(exchange)
            return answer._replace(asked_at=answer.asked_at + ahead, answered_at=answer.answered_at + ahead)

        async with driver.talk(shifted) as talk:
            assert abs((await clock.get(talk)).offset - 100 * SECOND) < 2 * SECOND
            await clock.set(talk, meter.clock())
            assert abs((await clock.get(talk)).offset) < 2 * SECOND

    try:
        await bus.submit(Lane.ON_DEMAND, "one", work)
    finally:
        await bus.close()


async def test_two_that_speak_at_once_are_noticed_over_the_wire(site: Simulation):
    link = TcpStreamLink(*site.places["box"])
    site.dlt645.servers["box"].line.meters["000000000161"] = site.dlt645.meters["four"]
    asked = 0

    async def transact(exchange: Exchange) -> Never:
        nonlocal asked
        asked += 1
        await link.exchange(exchange, 0.05)
        raise AssertionError("a listener is never content")

    try:
        heard = await discover(transact, load_dlt645_profile("dlt645_2007"), max_requests=2)
    finally:
        await link.close()
    assert heard.requests == asked == 2
    assert not heard.complete
    assert heard.addresses == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("damaged", FrameError),
        ("half", FrameError),
        ("echo", None),
        ("noise", None),
        ("late", None),
    ],
)
async def test_faults_on_the_wire_are_named_errors_or_do_not_matter(
    site: Simulation, kind: str, error: type[MeterError] | None
):
    site.dlt645.meters["one"].faults.replace([Dlt645Fault(kind, seconds=0.01)])
    bus = tcp(site)
    try:
        if error is None:
            assert await read(bus, "one", "dlt645_2007_3p", "000000004321", ("frequency",))
        else:
            with pytest.raises(error):
                await read(bus, "one", "dlt645_2007_3p", "000000004321", ("frequency",))
    finally:
        await bus.close()


async def test_a_foreign_client_reads_a_known_frame(site: Simulation):
    """The bytes as any other master sends them, without our links."""
    reader, writer = await asyncio.open_connection(*site.places["box"])
    writer.write(bytes.fromhex("FEFEFEFE6821430000000068110433333433") + b"\x16\x16")
    head = await reader.readexactly(4 + 20)
    writer.close()
    frame = parse_frame(head)
    assert (frame.address, frame.control) == ("000000004321", 0x91)
    value, _ = decode_number(parse_format("XXXXXX.XX"), frame.data[4:])
    assert value >= 123_450


def test_tariffs_add_up_to_the_total_and_never_go_back():
    totals = [0, 1, 1_999_999_999, 5_000_000_000, 123_456_789_012_345]
    rows = [[tariff(total, number) for number in range(1, 5)] for total in totals]
    assert [sum(row) for row in rows] == totals
    assert all(a <= b for first, second in pairwise(rows) for a, b in zip(first, second, strict=True))


def test_a_simulated_meter_shows_no_password():
    assert "1234" not in repr(Dlt645Made("000000000001", password=bytes.fromhex("123456")))


def test_a_wrong_password_is_refused_as_a_meter_does(tmp_path: Path):
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    meter = Simulation.load(path).dlt645.meters["one"]
    request = build_frame("000000004321", 0x14, di_bytes("04000101") + bytes.fromhex("02999999") + bytes(4) + bytes(4))
    said = meter.answer(parse_frame(request))
    assert (said.frame.control, said.frame.data) == (0xD4, b"\x04")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('"000000004321"', '"4321"', 6, "'4321' is not an address of 12 digits"),
        ('"000000004321"', '"AAAAAAAA4321"', 6, "12 digits"),
        ('edition = "1997"', 'edition = "1997"\nprofile = "dlt645_2007"', 10, "is of the edition 2007"),
        ('edition = "1997"', 'profile = "dlt645_208"', 10, "there is no profile 'dlt645_208'; did you mean"),
        ('kind = "damaged"', 'kind = "damage"', 14, "dlt645[0].meter[1].fault[0].kind"),
        ('id = "old"', 'id = "one"', 11, "'one' is already the id of another meter"),
        ("start_kwh = 1234.5", 'password = "12"', 7, "a password is 6 digits"),
        ('address = "000000000161"', 'address = "000000004321"', 2, "two meters of one line have the same address"),
    ],
)
def test_a_wrong_fleet_file_is_told_with_its_place(tmp_path: Path, old: str, new: str, line: int, message: str):
    path = tmp_path / "site.toml"
    path.write_text(SITE.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_fleet(path)
    assert message in str(caught.value)
    assert caught.value.line == line
