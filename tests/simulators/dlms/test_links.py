"""Simulated DLMS meters on real sockets and pseudo-terminals: wrapper, HDLC, mode E, speeds, several meters."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial

from collector.protocols.dlms import acse, axdr, mode_e
from collector.protocols.dlms.acse import Conformance, Context
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.get import GetRequest
from collector.protocols.dlms.hdlc import ServerAddress
from collector.protocols.dlms.hdlc_stream import HdlcSplitter
from collector.protocols.dlms.references import Attribute
from collector.protocols.dlms.station import HdlcStation
from collector.protocols.dlms.wrapper import WrapperSplitter, wrap
from collector.protocols.parity import strip_parity, with_parity
from metering.model import SECOND
from simulators.dlms_faults import DlmsFault
from simulators.dlms_hdlc import HdlcStations
from simulators.dlms_meter import DlmsMeter, DlmsSettings
from simulators.dlms_serial import DlmsLine
from simulators.dlms_tcp import DlmsTcpServer, Framing
from simulators.meter import Meter, MeterSettings

Conversation = Any
NOW = 1_795_000_000 * SECOND
SERIAL = Attribute(1, "0-0:96.1.0*255", 2)
ASK = GetRequest(0xC1, SERIAL).to_bytes()
OPEN = acse.Aarq(
    Context.LN, user_information=acse.InitiateRequest(Conformance.GET | Conformance.BLOCK_GET, 0).to_bytes()
).to_bytes()
WAIT_S = 10.0


def meter(number: int) -> DlmsMeter:
    made = Meter(MeterSettings(seed=number, serial=f"7000000{number}"))
    return DlmsMeter(made, DlmsSettings(history=False), now=lambda: NOW)


def serial_of(apdu: bytes) -> str:
    return axdr.decode_all(parse_apdu(apdu).data).value.decode()  # type: ignore[attr-defined] # a get-response


class Wire:
    """A raw connection with wrapped APDUs on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.splitter = WrapperSplitter()

    async def ask(self, apdu: bytes, server: int = 1, client: int = 16) -> tuple[int, int, bytes]:
        self.writer.write(wrap(client, server, apdu))
        return await self.hear()

    async def hear(self) -> tuple[int, int, bytes]:
        while True:
            found = self.splitter.feed(await asyncio.wait_for(self.reader.read(65536), WAIT_S))
            if found:
                header, apdu = found[0]
                return header.source, header.destination, apdu


Dial = Callable[..., Any]


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    opened: list[Any] = []

    async def start(server: DlmsTcpServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        place = (server.host, server.port) if server.port else await server.start()
        reader, writer = await asyncio.open_connection(*place)
        opened.append((server, writer))
        return reader, writer

    yield start
    for server, writer in opened:
        writer.close()
        await server.close()


async def test_logical_devices_of_one_endpoint_are_told_apart(dial: Dial):
    server = DlmsTcpServer({1: meter(1), 5: meter(5)})
    wire = Wire(*await dial(server))
    for logical in (1, 5):
        assert (await wire.ask(OPEN, logical))[:2] == (logical, 16)
        assert serial_of((await wire.ask(ASK, logical))[2]) == f"7000000{logical}"
    wire.writer.write(wrap(16, 9, OPEN))  # nobody is there
    assert serial_of((await wire.ask(ASK, 1))[2]) == "70000001"


async def test_an_association_ends_with_its_connection(dial: Dial):
    server = DlmsTcpServer({1: meter(1)})
    first = Wire(*await dial(server))
    await first.ask(OPEN)
    second = Wire(*await dial(server))
    assert (await second.ask(ASK))[2][0] == 0xD8
    assert serial_of((await first.ask(ASK))[2]) == "70000001"


async def test_faults_of_the_link_stand_on_the_wire(dial: Dial):
    made = meter(1)
    wire = Wire(*await dial(DlmsTcpServer({1: made})))
    await wire.ask(OPEN)
    made.faults.replace([DlmsFault("other_meter", times=1)])
    assert (await wire.ask(ASK))[:2] == (2, 16)
    made.faults.replace(script=[DlmsFault("lost"), None])
    wire.writer.write(wrap(16, 1, ASK))
    assert serial_of((await wire.ask(ASK))[2]) == "70000001"
    made.faults.replace([DlmsFault("late", seconds=0.05, times=1)])
    assert serial_of((await wire.ask(ASK))[2]) == "70000001"
    made.faults.replace([DlmsFault("reset", times=1)])
    wire.writer.write(wrap(16, 1, ASK))
    with pytest.raises(ConnectionResetError):
        await wire.reader.read(100)


async def test_a_stream_that_is_no_wrapper_is_closed(dial: Dial):
    reader, writer = await dial(DlmsTcpServer({1: meter(1)}))
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)


def steps(conversation: Conversation, station: HdlcStation, exchange: Callable[[bytes, Any], bytes]) -> Any:  # noqa: ANN401 - whatever the conversation returns
    request = next(conversation)
    while True:
        reply = exchange(request, station.receiver())
        try:
            request = conversation.send(reply)
        except StopIteration as done:
            return done.value


@pytest.mark.parametrize("address", [ServerAddress(1), ServerAddress(1, 17, 2), ServerAddress(1, 17, 4)])
@pytest.mark.parametrize("framing", ["hdlc"])
async def test_hdlc_over_tcp_takes_addresses_of_any_size(dial: Dial, framing: Framing, address: ServerAddress):
    server = DlmsTcpServer({1: meter(1)}, framing=framing)
    place = await server.start()
    await dial(server)

    def talk() -> str:
        import socket

        with socket.create_connection(place, WAIT_S) as wire:

            def exchange(request: bytes, receiver: Callable[[bytes], bytes | None]) -> bytes:
                wire.sendall(request)
                while True:
                    found = receiver(wire.recv(4096))
                    if found is not None:
                        return found

            station = HdlcStation(16, address, max_info=64, window=3)
            steps(station.connect(), station, exchange)
            steps(station.exchange(OPEN), station, exchange)
            shown = serial_of(steps(station.exchange(ASK), station, exchange))
            steps(station.disconnect(), station, exchange)
            return shown

    assert await asyncio.to_thread(talk) == "70000001"


def test_a_frame_in_a_later_window_is_lost_and_another_meters_answer_bears_its_address():
    made = meter(1)
    stations = HdlcStations({1: made}, max_info=64, window=2)
    client = HdlcStation(16, ServerAddress(1, 17, 2), max_info=64, window=2)

    def exchange(request: bytes, _: object) -> bytes:
        return b"".join(delivery.data for delivery in stations.heard(request))

    steps(client.connect(), client, exchange)
    steps(client.exchange(OPEN), client, exchange)
    long = client.exchange(GetRequest(0xC1, Attribute(15, "0-0:40.0.0*255", 2)).to_bytes())
    made.faults.replace([DlmsFault("lost", count=3, times=1)])
    first = exchange(next(long), None)
    assert [frame.send for frame, _ in HdlcSplitter().feed(first)] == [1, 2]
    second = HdlcSplitter().feed(exchange(long.send(first), None))
    assert [frame.send for frame, _ in second] == [4]  # the third is not there
    made.faults.replace([DlmsFault("other_meter", times=1)])
    fresh = HdlcStation(16, ServerAddress(1, 17, 2), max_info=64)
    steps(fresh.connect(), fresh, exchange)
    ((frame, _),) = HdlcSplitter().feed(exchange(next(fresh.exchange(OPEN)), None))
    assert frame.source != ServerAddress(1, 17, 2).to_bytes()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Callable[..., DlmsLine]]:
    lines: list[DlmsLine] = []

    def made(**how: Any) -> DlmsLine:  # noqa: ANN401 - as the line takes it
        found = DlmsLine({(1, 17): meter(1), (1, 18): meter(2)}, path=tmp_path / "line", **how)
        lines.append(found)
        found.start()
        return found

    yield made
    for found in lines:
        found.close()


def read_serial(port: serial.Serial, physical: int) -> tuple[str, int]:
    """Return the serial number by HDLC, and how many bytes went both ways."""
    count = 0

    def exchange(request: bytes, receiver: Callable[[bytes], bytes | None]) -> bytes:
        nonlocal count
        port.write(request)
        count += len(request)
        while True:
            heard = port.read(max(1, port.in_waiting))
            assert heard, "nothing came"
            count += len(heard)
            found = receiver(heard)
            if found is not None:
                return found

    station = HdlcStation(16, ServerAddress(1, physical, 2), max_info=128, window=1)
    for conversation in (station.connect(), station.exchange(OPEN)):
        steps(conversation, station, exchange)
    shown = serial_of(steps(station.exchange(ASK), station, exchange))
    steps(station.disconnect(), station, exchange)
    return shown, count


def test_meters_on_a_line_answer_by_their_physical_address_no_faster_than_the_line(line: Callable[..., DlmsLine]):
    made = line(baud=19200)
    with serial.Serial(str(made.path), 19200, timeout=WAIT_S) as port:
        for physical, number in ((17, 1), (18, 2)):
            begun = time.monotonic()
            shown, count = read_serial(port, physical)
            assert shown == f"7000000{number}"
            assert time.monotonic() - begun >= count * 10 / 19200 * 0.95


def test_who_speaks_at_another_speed_is_not_understood(line: Callable[..., DlmsLine]):
    made = line(baud=9600)
    station = HdlcStation(16, ServerAddress(1, 17, 2))
    with serial.Serial(str(made.path), 4800, timeout=0.2) as port:
        port.write(next(station.connect()))
        assert port.read(100) == b""
        assert made.misheard > 0
        port.baudrate = 9600
        port.timeout = WAIT_S
        assert read_serial(port, 17)[0] == "70000001"


def test_mode_e_begins_at_300_baud_and_goes_on_at_the_meters_speed(line: Callable[..., DlmsLine]):
    made = line(baud=19200, mode_e=True)
    with serial.Serial(str(made.path), 300, timeout=WAIT_S) as port:
        port.write(with_parity(mode_e.identify_request("70000002")))
        found = mode_e.parse_identification(strip_parity(port.read_until(b"\x0a")))
        assert (found.maker, found.baud, found.mode_e, found.ident) == ("MGT", 19200, True, "70000002")
        port.write(with_parity(mode_e.acknowledge(found.baud_char)))
        assert strip_parity(port.read(6)) == mode_e.acknowledge(found.baud_char)
        port.baudrate = found.baud
        assert read_serial(port, 18)[0] == "70000002"


def test_a_meter_that_is_not_meant_does_not_identify_itself(line: Callable[..., DlmsLine]):
    made = line(baud=9600, mode_e=True)
    with serial.Serial(str(made.path), 300, timeout=0.3) as port:
        for request in (mode_e.identify_request("12345"), b"\x06250\r\n", b"/?!x\r\n"):
            port.write(with_parity(request))
            assert port.read(1) == b""
