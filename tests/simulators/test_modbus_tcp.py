"""Faults of a TCP endpoint as they stand on the wire, byte for byte."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest

from collector.protocols.modbus import read_request, write_registers_request
from collector.protocols.modbus_adu import rtu_frame, tcp_frame
from simulators.faults import Fault, Kind
from simulators.modbus_tcp import ModbusTcpServer, StaticServer
from simulators.unit import FixedRegisters, Unit

Dial = Callable[[ModbusTcpServer], Awaitable[Any]]
UnknownUnit = Literal["silent", "exception"]

ASK = tcp_frame(7, 1, read_request(3, 1, 2))
GOOD = bytes.fromhex("0007 0000 0007 01 03 04 02030405")


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        (None, GOOD),
        (Fault("no_answer"), b""),
        (Fault("late", seconds=0.02), GOOD),
        (Fault("other_transaction"), bytes.fromhex("0006 0000 0007 01 03 04 02030405")),
        (Fault("truncated"), GOOD[:-3]),
        (Fault("truncated", count=1), GOOD[:-1]),
        (Fault("wrong_unit"), bytes.fromhex("0007 0000 0007 02 03 04 02030405")),
        (Fault("wrong_function"), bytes.fromhex("0007 0000 0007 01 04 04 02030405")),
        (Fault("wrong_byte_count"), bytes.fromhex("0007 0000 0007 01 03 06 02030405")),
        (Fault("exception", code=6), bytes.fromhex("0007 0000 0003 01 83 06")),
        (Fault("exception", code=11), bytes.fromhex("0007 0000 0003 01 83 0b")),
        (Fault("duplicate"), GOOD + GOOD),
        (Fault("split", count=4, seconds=0.01), GOOD),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
async def test_a_fault_is_seen_on_the_socket(unit: Unit, dial: Dial, fault: Fault | None, heard: bytes):
    wire = await dial(ModbusTcpServer({1: unit}))
    unit.faults.replace([fault] if fault else [])
    assert await wire.ask(ASK) == heard
    unit.faults.replace()
    assert await wire.ask(ASK) == GOOD


async def test_pieces_come_one_by_one_and_no_other_answer_stands_between_them(unit: Unit, dial: Dial):
    server = ModbusTcpServer({1: unit, 2: Unit(2, FixedRegisters({3: bytes(10)}))})
    wire = await dial(server)
    unit.faults.replace([Fault("split", count=3, seconds=0.02)])
    wire.writer.write(ASK)
    assert await wire.reader.read(100) == GOOD[:5]
    assert await wire.ask(tcp_frame(8, 2, read_request(3, 0, 1))) == GOOD[5:] + bytes.fromhex(
        "0008 0000 0005 02 03 02 0000"
    )


async def test_a_late_answer_comes_after_the_answers_of_later_requests(unit: Unit, dial: Dial):
    wire = await dial(ModbusTcpServer({1: unit}))
    unit.faults.replace(script=[Fault("late", seconds=0.05)])
    assert await wire.ask(ASK + tcp_frame(8, 1, read_request(3, 1, 2))) == GOOD.replace(b"\x07", b"\x08", 1) + GOOD


@pytest.mark.parametrize("kind", ["noise_before", "noise_between", "noise_after"])
async def test_noise_stands_around_the_answer(unit: Unit, dial: Dial, kind: Kind):
    wire = await dial(ModbusTcpServer({1: unit}))
    unit.faults.replace([Fault(kind, count=4)])
    heard = await wire.ask(ASK)
    assert len(heard) == len(GOOD) + 4
    before, after = {"noise_before": (0, 13), "noise_between": (6, 7), "noise_after": (13, 0)}[kind]
    assert heard.startswith(GOOD[:before])
    assert heard.endswith(GOOD[len(GOOD) - after :])


async def test_a_babbler_speaks_until_its_fault_is_taken_away(unit: Unit, dial: Dial):
    wire = await dial(ModbusTcpServer({1: unit}))
    unit.faults.replace([Fault("babble")])
    wire.writer.write(ASK)
    assert len(await wire.reader.readexactly(300)) == 300
    unit.faults.replace()
    await wire.ask(b"")  # what was still on the way
    assert await wire.ask(ASK) == GOOD


async def test_a_reset_connection_ends_with_an_error(unit: Unit, dial: Dial):
    wire = await dial(ModbusTcpServer({1: unit}))
    unit.faults.replace([Fault("reset")])
    with pytest.raises(ConnectionResetError):
        await wire.ask(ASK)


async def test_a_half_open_connection_stays_dead_while_a_new_one_works(unit: Unit, dial: Dial):
    server = ModbusTcpServer({1: unit})
    wire = await dial(server)
    unit.faults.replace([Fault("half_open", times=1)])
    assert await wire.ask(ASK) == b""
    assert await wire.ask(ASK) == b""
    fresh = await dial(server)
    assert await fresh.ask(ASK) == GOOD


@pytest.mark.parametrize(
    ("request_pdu", "reply"),
    [
        (bytes.fromhex("11"), bytes.fromhex("91 01")),
        (bytes.fromhex("2b 0e 01 00"), bytes.fromhex("ab 01")),
        (read_request(1, 0, 8), bytes.fromhex("81 01")),
        (write_registers_request(0, b"\0\1"), bytes.fromhex("90 01")),
        (read_request(3, 200, 1), bytes.fromhex("83 02")),
        (bytes.fromhex("03 0000 007e"), bytes.fromhex("83 03")),
        (bytes.fromhex("03 0000 0000"), bytes.fromhex("83 03")),
        (bytes.fromhex("03 ffff 0002"), bytes.fromhex("83 02")),
    ],
)
async def test_what_cannot_be_served_meets_the_standards_exception(
    unit: Unit, dial: Dial, request_pdu: bytes, reply: bytes
):
    wire = await dial(ModbusTcpServer({1: unit}))
    assert await wire.ask(tcp_frame(1, 1, request_pdu)) == tcp_frame(1, 1, reply)


@pytest.mark.parametrize(("policy", "reply"), [("silent", b""), ("exception", tcp_frame(7, 9, b"\x83\x0b"))])
async def test_a_unit_that_is_not_there_meets_silence_or_the_gateways_exception(
    unit: Unit, dial: Dial, policy: UnknownUnit, reply: bytes
):
    wire = await dial(ModbusTcpServer({1: unit}, unknown_unit=policy))
    assert await wire.ask(tcp_frame(7, 9, read_request(3, 0, 1))) == reply


async def test_a_stream_that_is_not_modbus_is_closed(unit: Unit, dial: Dial):
    wire = await dial(ModbusTcpServer({1: unit}))
    with contextlib.suppress(ConnectionResetError):
        assert await wire.ask(b"GET / HTTP/1.1\r\n\r\n") == b""
    assert wire.reader.at_eof() or wire.reader.exception() is not None


async def test_requests_in_one_segment_and_a_request_in_many_are_served(unit: Unit, dial: Dial):
    wire = await dial(ModbusTcpServer({1: unit}))
    assert await wire.ask(ASK * 3) == GOOD * 3
    for byte in ASK[:-1]:
        wire.writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert await wire.ask(ASK[-1:]) == GOOD


async def test_rtu_framing_over_tcp_has_a_crc_and_no_header(unit: Unit, dial: Dial):
    wire = await dial(ModbusTcpServer({1: unit}, framing="rtu"))
    ask, good = rtu_frame(1, read_request(3, 1, 2)), rtu_frame(1, bytes.fromhex("03 04 02030405"))
    assert await wire.ask(ask) == good
    assert await wire.ask(ask + ask) == good + good
    assert await wire.ask(rtu_frame(1, b"\x11")) == rtu_frame(1, b"\x91\x01")
    assert await wire.ask(ask[:-1] + b"\0") == b""  # bad CRC: no answer
    unit.faults.replace([Fault("bad_crc")])
    assert await wire.ask(ask) == good[:-1] + bytes([good[-1] ^ 0x5A])
    unit.faults.replace([Fault("other_transaction")])
    assert await wire.ask(rtu_frame(1, read_request(3, 0, 1))) == good  # the answer before


async def test_a_static_server_answers_on_every_port_from_a_process_of_its_own():
    with StaticServer(2, [1, 5], bytes(range(100))) as server:
        assert server.pid
        assert len(set(server.ports)) == 2
        for port in server.ports:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(tcp_frame(7, 5, read_request(4, 1, 2)) + tcp_frame(8, 5, read_request(4, 60, 2)))
            assert await reader.readexactly(13) == bytes.fromhex("0007 0000 0007 05 04 04 02030405")
            assert await reader.readexactly(9) == bytes.fromhex("0008 0000 0003 05 84 02")
            writer.close()
