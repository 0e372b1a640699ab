"""The wire inside the process: answers, refusals and silence as a real wire gives them."""

import struct

import pytest

from collector.exchange import Exchange
from collector.protocols.modbus import READ_INPUT_REGISTERS, read_request, reply_length
from metergate.fleet.link import InProcessLink
from metering.errors import NoAnswerError, RefusedError
from simulators.steady import SteadyTotals
from simulators.unit import Unit

HOUR = 3_600_000_000


def exchange(unit: int, address: int = 72, count: int = 8) -> Exchange:
    pdu = read_request(READ_INPUT_REGISTERS, address, count)
    return Exchange(unit, pdu, reply_length(pdu), 0.0)


@pytest.fixture
def link() -> InProcessLink:
    return InProcessLink("b0", {1: Unit(1, SteadyTotals(1.0)), 2: Unit(2, SteadyTotals(2.0))})


async def test_the_unit_that_was_asked_answers(link: InProcessLink):
    one = await link.exchange(exchange(1), 1.0)
    two = await link.exchange(exchange(2), 1.0)
    assert len(one) == exchange(1).reply_length
    assert struct.unpack(">4f", two[2:])[0] > struct.unpack(">4f", one[2:])[0]
    assert link.status().connected


async def test_a_unit_that_is_not_there_is_silent(link: InProcessLink):
    with pytest.raises(NoAnswerError, match="unit 3"):
        await link.exchange(exchange(3), 0.5)


async def test_too_many_registers_are_refused_as_by_a_meter(link: InProcessLink):
    with pytest.raises(RefusedError):
        await link.exchange(exchange(1, count=100), 0.5)


def test_totals_grow_with_time_and_load():
    one = SteadyTotals(1.5)
    before = struct.unpack(">2f", one.read(4, 72, 4, 1_800_000_000_000_000, None))
    after = struct.unpack(">2f", one.read(4, 72, 4, 1_800_000_000_000_000 + 10 * HOUR, None))
    assert after[0] - before[0] == pytest.approx(15, abs=0.01)
    assert len(one.read(4, 0, 3, 0, None)) == 6
