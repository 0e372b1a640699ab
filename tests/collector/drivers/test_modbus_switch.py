"""The load switch of a simulated Modbus meter: ordered once, read back, and never believed by its echo alone."""

from itertools import count

import pytest

from collector.capabilities import Order, SentFrame
from collector.drivers.modbus import ModbusTalk
from collector.drivers.modbus_switch import ModbusSwitch
from collector.exchange import Answer, Exchange
from collector.profile import load_profile
from collector.protocols.modbus import check_reply
from collector.supply_rules import Do, Never, outcome
from metering.errors import ConfigError, FrameError, MeterError, NoAnswerError, RefusedError
from metering.model import SECOND, Block, Source
from metering.supply import Action
from simulators.meter import Meter, MeterSettings
from simulators.modbus_switch import SwitchedRegisters
from simulators.models import Model
from simulators.registers import MeterRegisters
from simulators.unit import Unit

A = Action
PROFILE = load_profile("example_switched")
LATER = 2**52


class Line:
    """One simulated meter and what carries exchanges to it, each a second after the other."""

    def __init__(self) -> None:
        self.time = count(1_795_000_000 * SECOND, SECOND)
        model = Model(PROFILE)
        self.meter = Meter(MeterSettings(serial="SW-000017", phases=1))
        self.registers = SwitchedRegisters(MeterRegisters(self.meter, model.layout()), PROFILE, model.load_side())
        self.unit = Unit(1, self.registers, clock=lambda: next(self.time))
        self.talk = ModbusTalk(self.transact)
        self.switch = ModbusSwitch(PROFILE, "m1", 1)
        self.sent: list[SentFrame] = []
        self.exchanges: list[Exchange] = []

    async def transact(self, exchange: Exchange) -> Answer:
        self.exchanges.append(exchange)
        reply = self.unit.answer(exchange.pdu).pdu
        check_reply(exchange.pdu, reply)
        return Answer(reply, next(self.time), next(self.time))

    async def order(self, action: Action) -> None:
        await self.switch.act(self.talk, Order(action, LATER), self.sent)


async def test_it_is_opened_and_closed_and_says_so_itself():
    line = Line()
    assert await line.switch.identities(line.talk) == {"serial:SW-000017"}
    state = await line.switch.state(line.talk)
    assert state.output is True
    assert state.load_a is not None
    assert line.switch.plan(A.DISCONNECT, state) == Do(A.DISCONNECT)
    await line.order(A.DISCONNECT)
    state = await line.switch.state(line.talk)
    assert outcome(A.DISCONNECT, state) == "as-asked"
    assert not line.meter.supply_on
    assert line.switch.plan(A.RESTORE, state) == Do(A.RECONNECT)
    await line.order(A.RECONNECT)
    assert outcome(A.RESTORE, await line.switch.state(line.talk)) == "as-asked"
    assert [each.masked.hex() for each in line.sent] == ["01050000" + "0000", "01050000" + "ff00"]
    assert [each.once for each in line.exchanges if each.pdu[0] == 5] == [True, True]


@pytest.mark.parametrize("misdeed", ["stuck", "deaf"])
async def test_an_echo_is_no_proof(misdeed: str):
    line = Line()
    line.registers.misdeed = misdeed
    await line.order(A.DISCONNECT)
    assert outcome(A.DISCONNECT, await line.switch.state(line.talk)) == "not-yet"


@pytest.mark.parametrize(
    ("code", "error"),
    [(1, RefusedError), (2, RefusedError), (3, RefusedError), (6, RefusedError)]
    + [(code, NoAnswerError) for code in (4, 5, 10, 11)],
)
async def test_an_exception_is_a_no_only_where_nothing_can_have_happened(code: int, error: type[MeterError]):
    line = Line()

    async def fails(_: Exchange) -> Answer:
        raise RefusedError("an exception", code=code, meter="m1")

    line.talk = ModbusTalk(fails)
    with pytest.raises(error):
        await line.order(A.DISCONNECT)
    assert len(line.sent) == 1


async def test_a_slow_contact_is_seen_when_it_has_moved():
    line = Line()
    line.registers.delay_s = 30
    await line.order(A.DISCONNECT)
    seen = [outcome(A.DISCONNECT, await line.switch.state(line.talk)) for _ in range(9)]
    assert (seen[0], seen[-1]) == ("not-yet", "as-asked")


async def test_back_feed_is_seen_on_the_load_side():
    line = Line()
    await line.order(A.DISCONNECT)
    assert (await line.switch.state(line.talk)).load_side_v == 0
    line.registers.back_feed_v = 231.5
    assert (await line.switch.state(line.talk)).load_side_v == pytest.approx(231.5)


async def test_a_relay_that_shows_neither_is_no_state(monkeypatch: pytest.MonkeyPatch):
    line = Line()
    supply = PROFILE.supply
    status = supply.status.model_copy(update={"open": 2})
    monkeypatch.setattr(line.switch, "_supply", supply.model_copy(update={"status": status}))
    await line.order(A.DISCONNECT)
    with pytest.raises(FrameError, match="neither open nor closed"):
        await line.switch.state(line.talk)


async def test_registers_before_and_after():
    line = Line()
    blocks: list[Block] = []
    await line.switch.registers(line.talk, into=blocks)
    assert [(each.layout.source, each.layout.columns[0].obis) for each in blocks] == [(Source.COMMAND, "1-0:1.8.0*255")]


async def test_what_it_cannot_do_it_says():
    line = Line()
    state = await line.switch.state(line.talk)
    assert isinstance(line.switch.plan(A.LIMIT, state, 500), Never)
    assert isinstance(line.switch.plan(A.KEEP_POWER_ON, state), Never)
    with pytest.raises(RefusedError, match="no limiter"):
        await line.switch.settings(line.talk)


def test_a_model_without_an_identity_can_be_given_no_command():
    with pytest.raises(ConfigError, match="no identity"):
        ModbusSwitch(PROFILE.model_copy(update={"identity": None}), "m1", 1)
    with pytest.raises(ConfigError, match="no load switch"):
        ModbusSwitch(load_profile("eastron_sdm120"), "m1", 1)
