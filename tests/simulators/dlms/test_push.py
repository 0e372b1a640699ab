"""What a simulated DLMS meter pushes, as our own listener's parser reads it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from collector.protocols.dlms.axdr import array, enum_, octets, structure
from collector.protocols.dlms.clock import parse_datetime, to_utc
from collector.protocols.dlms.notify import parse_notification
from collector.protocols.dlms.references import CaptureObject, DataAccessResult, logical_name
from collector.protocols.dlms.wrapper import WrapperSplitter
from simulators.dlms_meter import DlmsSettings
from simulators.dlms_objects import Ask, Denied
from simulators.dlms_push import PUSH, Pusher, PushSettings
from simulators.dlms_security import test_keys as keys_of_tests

Bench = Any
Make = Callable[..., Any]
Heard = asyncio.Queue[tuple[int, int, bytes]]
WAIT_S = 10.0


@pytest.fixture
async def listener() -> AsyncIterator[tuple[str, Heard]]:
    heard: Heard = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for header, apdu in WrapperSplitter().feed(await reader.read()):
            heard.put_nowait((header.source, header.destination, apdu))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    yield f"{host}:{port}", heard
    server.close()


@pytest.mark.parametrize("control", [0, 0x30])
async def test_a_meter_that_is_told_to_pushes_its_name_time_and_registers(
    make: Make, listener: tuple[str, Heard], control: int
):
    place, heard = listener
    bench = make(DlmsSettings(history=False, push=PushSettings(place, ciphered=bool(control), client=9)))
    meter = bench.meter
    pusher = Pusher([meter])
    pusher.start()
    counters = []
    for number in (1, 2):
        meter.objects[PUSH].do(1, None, Ask(bench.clock.now))
        source, destination, apdu = await asyncio.wait_for(heard.get(), WAIT_S)
        assert (source, destination) == (1, 9)
        found = parse_notification(apdu, lambda title: keys_of_tests() if title == meter.title else None)
        assert found.long_invoke == number
        assert to_utc(parse_datetime(found.time)) == bench.clock.now
        name, device, clock, imported, exported = (part.value for part in found.body.value)
        assert (name, device) == (logical_name(PUSH), meter.device_name)
        assert to_utc(parse_datetime(clock)) == bench.clock.now
        assert imported == meter.registers.value("1-0:1.8.0*255", bench.clock.now).value
        assert exported == meter.registers.value("1-0:2.8.0*255", bench.clock.now).value
        assert (found.title, found.control) == (meter.title if control else b"", control)
        counters.append(found.counter)
    assert not control or counters[0] < counters[1]
    assert (pusher.sent, pusher.failed) == (2, 0)
    await pusher.close()


async def test_each_interval_of_the_meters_clock_brings_a_push(make: Make, listener: tuple[str, Heard]):
    place, heard = listener
    bench = make(DlmsSettings(history=False, push=PushSettings(place, interval_s=900)))
    bench.clock.now += (900 - 400 % 900) * 1_000_000 - 1000  # a millisecond before 11:15
    pusher = Pusher([bench.meter])
    pusher.start()
    assert await asyncio.wait_for(heard.get(), WAIT_S)
    await pusher.close()


async def test_a_listener_that_is_not_there_is_counted(make: Make):
    bench = make(DlmsSettings(push=PushSettings("127.0.0.1:1")))
    pusher = Pusher([bench.meter])
    await pusher.push(bench.meter)
    assert (pusher.sent, pusher.failed) == (0, 1)


def test_the_setup_can_be_read_and_changed(quiet: Bench):
    setup = quiet.meter.objects[PUSH]
    ask = Ask(quiet.clock.now)
    wanted = array(CaptureObject(1, "0-0:42.0.0*255", 2).to_data())
    setup.set(2, wanted, ask)
    assert setup.get(2, ask) == wanted
    place = structure(enum_(0), octets(b"127.0.0.1:4060"), enum_(0))
    setup.set(3, place, ask)
    assert setup.get(3, ask) == place
    assert quiet.meter.push.destination == "127.0.0.1:4060"
    for attribute, value in ((2, array(CaptureObject(3, "1-0:99.9.9*255", 2).to_data())), (3, structure(enum_(4)))):
        with pytest.raises(Denied) as caught:
            setup.set(attribute, value, ask)
        assert caught.value.result in (DataAccessResult.OBJECT_UNDEFINED, DataAccessResult.TYPE_UNMATCHED)
