"""The Modbus reader against a meter's own memory of registers: blocks, checks, and what it learns."""

from itertools import count

import pytest

from collector.drivers.modbus import MAX_REFUSALS_OF_ALL, ModbusDriver, ModbusReader, ModbusTalk
from collector.exchange import Answer, Exchange
from collector.plan import Holes
from collector.profile import load_profile
from collector.protocols.modbus import exception_reply, parse_request, read_reply
from collector.protocols.modbus_values import encode
from metering.errors import FrameError, RefusedError
from metering.model import Block, Kind, Source
from metering.quality import Quality


class Meter:
    """Registers of one meter; a read that touches a missing register is refused with exception 2."""

    def __init__(self, name: str) -> None:
        self.profile = load_profile(name)
        self.missing: set[int] = set()
        self.registers: dict[int, bytes] = {}
        self.asked: list[Exchange] = []
        self.clock = count(1_000_000, 500)

    def put(self, name: str, value: float | None) -> None:
        point = self.profile.select((name,))[0]
        data = encode(self.profile.spec(point), value)
        self.registers.update({point.address + i: data[2 * i : 2 * i + 2] for i in range(point.registers)})

    async def transact(self, exchange: Exchange) -> Answer:
        self.asked.append(exchange)
        return Answer(self.answer(exchange), next(self.clock), next(self.clock))

    def answer(self, exchange: Exchange) -> bytes:
        request = parse_request(exchange.pdu)
        wanted = range(request.address, request.address + request.quantity)
        if self.missing.intersection(wanted):
            return exception_reply(request.function, 2)
        return read_reply(request.function, b"".join(self.registers.get(i, b"\0\0") for i in wanted))


async def read(reader: ModbusReader, meter: Meter, slot: int | None = None) -> list[Block]:
    blocks: list[Block] = []
    await reader.read(ModbusTalk(meter.transact), slot=slot, source=Source.POLL, into=blocks)
    return blocks


def shown(blocks: list[Block]) -> dict[str, float | None]:
    return {c.obis: v for b in blocks for c, v in zip(b.layout.columns, b.values, strict=True)}


async def test_each_request_gives_one_block_a_kind_stamped_with_its_middle():
    meter = Meter("eastron_sdm630")
    meter.put("active_energy_import", 1234.5)
    meter.put("voltage_l1", 230.25)
    reader = ModbusReader(meter.profile, "m1", 7)
    blocks = await read(reader, meter, slot=900)
    assert [e.unit for e in meter.asked] == [7] * len(reader.requests)
    assert blocks[0].measured_at == 1_000_250
    assert blocks[0].received_at == 1_000_500
    assert {b.slot for b in blocks} == {900}
    assert all(len(b.values) == len(b.layout.columns) for b in blocks)
    assert shown(blocks)["1-0:1.8.0*255"] == 1234.5
    assert shown(blocks)["1-0:32.7.0*255"] == 230.25
    assert {b.layout.kind for b in blocks} == {
        Kind.REGISTER, Kind.INSTANTANEOUS, Kind.AVERAGE, Kind.MAXIMUM_DEMAND
    }  # fmt: skip
    again = await read(ModbusReader(meter.profile, "m2", 8), meter)
    assert all(a.layout is b.layout for a, b in zip(blocks, again, strict=True))


async def test_a_sentinel_gives_no_value_and_its_flag_beside_valid_neighbours():
    meter = Meter("abb_b23_b24")
    meter.put("active_energy_import", 2**63 + 1)
    meter.put("active_energy_export", None)
    names = ["active_energy_import", "active_energy_export"]
    (block,) = await read(ModbusReader(meter.profile, "m", 1, names), meter)
    assert block.values == (2**63 + 1, None)
    assert block.quality == (0, Quality.NOT_AVAILABLE)


async def test_a_hole_in_a_gap_is_asked_for_once_and_every_value_is_read():
    meter = Meter("eastron_sdm630")
    meter.missing = {40}  # between the power factors and the sum of currents
    told: list[tuple[str, Holes]] = []
    names = ["power_factor_l3", "current"]
    reader = ModbusReader(meter.profile, "m", 1, names, on_holes=lambda device, holes: told.append((device, holes)))
    assert len(await read(reader, meter)) == 2
    assert told == [("m", Holes(frozenset([(4, 48)])))]
    assert str(reader.holes) == ""
    meter.asked.clear()
    assert len(await read(reader, meter)) == 2
    assert len(meter.asked) == 2
    reader.forget()
    assert len(reader.requests) == 1


async def test_a_value_that_the_meter_lacks_is_found_and_left_out_afterwards():
    meter = Meter("eastron_sdm630")
    meter.missing = {84, 85}
    reader = ModbusReader(meter.profile, "m", 1)
    blocks = await read(reader, meter)
    assert len(shown(blocks)) == len(meter.profile.points) - 1
    assert reader.holes.unreadable == {(4, 84, 2)}
    assert str(reader.holes) == "84+2"
    meter.asked.clear()
    blocks = await read(reader, meter)
    assert len(shown(blocks)) == len(meter.profile.points) - 1
    assert len(meter.asked) == len(reader.requests)


async def test_a_meter_that_refuses_everything_teaches_nothing_and_costs_little():
    meter = Meter("eastron_sdm630")
    meter.missing = set(range(65536))
    reader = ModbusReader(meter.profile, "m", 1)
    with pytest.raises(RefusedError, match="illegal data address") as caught:
        await read(reader, meter)
    assert caught.value.meter == "m"
    assert not reader.holes
    assert len(meter.asked) <= len(reader.requests) + MAX_REFUSALS_OF_ALL + 1


async def test_what_was_read_before_an_error_is_not_lost():
    meter = Meter("eastron_sdm630")
    reader = ModbusReader(meter.profile, "m", 1)

    async def fails_later(exchange: Exchange) -> Answer:
        return await meter.transact(exchange) if len(meter.asked) < 2 else Answer(exception_reply(4, 6), 0, 0)

    kept: list[Block] = []
    with pytest.raises(RefusedError, match="busy"):
        await reader.read(ModbusTalk(fails_later), slot=None, source=Source.POLL, into=kept)
    assert len(kept) >= 2


@pytest.mark.parametrize("reply", [b"", b"\x04\x02\0\0", b"\x03\x04\0\0\0\0", b"\x04\x04\0\0\0", b"\x04\x03\0\0\0\0"])
async def test_a_reply_that_is_not_the_answer_is_never_a_reading(reply: bytes):
    async def transact(_: Exchange) -> Answer:
        return Answer(reply, 0, 0)

    kept: list[Block] = []
    reader = ModbusReader(load_profile("eastron_sdm120"), "m", 1, ["voltage_l1"])
    with pytest.raises(FrameError):
        await reader.read(ModbusTalk(transact), slot=None, source=Source.POLL, into=kept)
    assert not kept


async def test_the_serial_number_is_read_where_the_model_shows_it():
    meter = Meter("eastron_sdm120")
    meter.registers.update({64512: b"\x00\xcf", 64513: b"\x33\xee"})
    async with ModbusDriver(meter.profile, "m", 1).talk(meter.transact) as talk:
        assert await ModbusDriver(meter.profile, "m", 1).identify(talk) == "13579246"
        assert await ModbusDriver(load_profile("chint_ddsu666"), "m", 1).identify(talk) is None
