"""The load switch of a simulated DL/T 645 meter: 1CH by password or through an encryption machine, status read back."""

import pytest

from collector.capabilities import Order, SentFrame
from collector.dlt645_profile import load_dlt645_profile
from collector.drivers.dlt645_switch import Dlt645Switch
from collector.keys import MeterKeys
from collector.protocols.dlt645.frame import parse_frame
from collector.protocols.dlt645.writes import parse_control
from collector.supply_rules import Do, Done, outcome
from metering.errors import AuthError, ConfigError, RefusedError
from metering.model import SECOND, Block, Source
from metering.supply import Action
from simulators.dlt645_esam import EncryptionMachine
from tests.collector.drivers.dlt645.simulated_line import ADDRESS, START, Site

A = Action
PASSWORD = bytes.fromhex("123456")
OPERATOR = bytes.fromhex("87654321")
PROFILE = load_dlt645_profile("dlt645_2007_3p")
LATER = START + 3600 * SECOND


def switch(*, password: bytes = PASSWORD, machine: EncryptionMachine | None = None, **supply: object) -> Dlt645Switch:
    profile = PROFILE.model_copy(update={"supply": PROFILE.supply.model_copy(update=supply)})
    return Dlt645Switch(profile, "m1", ADDRESS, MeterKeys(password=password, operator=OPERATOR), machine)


async def order(site: Site, mine: Dlt645Switch, action: Action, until: int = LATER) -> list[SentFrame]:
    sent: list[SentFrame] = []
    await mine.act(site.talk(), Order(action, until), sent)
    return sent


async def test_it_trips_permits_and_closes(site: Site):
    meter = site.add(made={"password": PASSWORD})
    mine = switch()
    assert await mine.identities(site.talk()) == {f"address:{ADDRESS}"}
    assert mine.plan(A.DISCONNECT, await mine.state(site.talk())) == Do(A.DISCONNECT)
    await order(site, mine, A.DISCONNECT)
    state = await mine.state(site.talk())
    assert outcome(A.DISCONNECT, state) == "as-asked"
    assert mine.plan(A.RESTORE, state) == Do(A.ARM)
    await order(site, mine, A.ARM)
    assert outcome(A.RESTORE, await mine.state(site.talk())) == "armed"
    meter.press()
    assert outcome(A.RESTORE, await mine.state(site.talk())) == "as-asked"
    await order(site, mine, A.DISCONNECT)
    await order(site, mine, A.RECONNECT)
    assert outcome(A.RECONNECT, await mine.state(site.talk())) == "as-asked"
    assert meter.meter.supply_on


async def test_a_model_that_closes_directly_is_restored_so(site: Site):
    site.add(made={"password": PASSWORD})
    mine = switch(closes=("direct", "permit"))
    await order(site, mine, A.DISCONNECT)
    assert mine.plan(A.RESTORE, await mine.state(site.talk())) == Do(A.RECONNECT)


async def test_keep_power_refuses_every_trip_until_it_is_lifted(site: Site):
    meter = site.add(made={"password": PASSWORD})
    mine = switch()
    await order(site, mine, A.KEEP_POWER_ON)
    state = await mine.state(site.talk())
    assert outcome(A.KEEP_POWER_ON, state) == "as-asked"
    assert not isinstance(mine.plan(A.DISCONNECT, state), Do | Done)
    with pytest.raises(RefusedError):
        await order(site, mine, A.DISCONNECT)
    assert meter.meter.supply_on
    await order(site, mine, A.KEEP_POWER_OFF)
    assert outcome(A.KEEP_POWER_OFF, await mine.state(site.talk())) == "as-asked"


async def test_the_meter_itself_refuses_what_came_too_late(site: Site):
    meter = site.add(made={"password": PASSWORD})
    with pytest.raises(RefusedError):
        await order(site, switch(), A.DISCONNECT, START - 3600 * SECOND)
    assert meter.meter.supply_on


async def test_a_frame_goes_out_once_and_is_kept_without_its_password(site: Site):
    site.add(made={"password": PASSWORD})
    (sent,) = await order(site, switch(), A.DISCONNECT)
    commands = [each for each, frame in zip(site.exchanges, site.asked, strict=True) if frame.control == 0x1C]
    assert [each.once for each in commands] == [True]
    asked = parse_control(parse_frame(sent.whole))
    assert asked is not None
    assert (asked.password, asked.operator, asked.switch) == (PASSWORD, OPERATOR, 0x1A)
    shifted = bytes(byte + 0x33 & 0xFF for byte in PASSWORD)
    for secret in (PASSWORD, PASSWORD[::-1], shifted, shifted[::-1]):
        assert secret not in sent.masked
        assert secret.hex() not in repr(sent)


async def test_a_wrong_password_is_a_matter_of_the_key(site: Site):
    meter = site.add(made={"password": PASSWORD})
    with pytest.raises(AuthError):
        await order(site, switch(password=bytes(3)), A.DISCONNECT)
    assert (meter.wrong_passwords, meter.meter.supply_on) == (1, True)


async def test_without_a_password_nothing_is_sent(site: Site):
    site.add()
    sent: list[SentFrame] = []
    with pytest.raises(RefusedError, match="key store has none"):
        await switch(password=b"").act(site.talk(), Order(A.DISCONNECT, LATER), sent)
    assert (sent, site.asked) == ([], [])


async def test_a_meter_with_a_module_refuses_a_trip_by_password(site: Site):
    meter = site.add(made={"password": PASSWORD, "needs_module": True})
    with pytest.raises(AuthError):
        await order(site, switch(), A.DISCONNECT)
    with pytest.raises(RefusedError, match="encryption machine"):
        await order(site, switch(route="esam"), A.DISCONNECT)
    assert meter.meter.supply_on


async def test_what_the_machine_seals_the_module_opens_once(site: Site):
    meter = site.add(made={"needs_module": True})
    mine = switch(route="esam", machine=EncryptionMachine())
    (sent,) = await order(site, mine, A.DISCONNECT)
    assert outcome(A.DISCONNECT, await mine.state(site.talk())) == "as-asked"
    await order(site, mine, A.RECONNECT)
    assert meter.meter.supply_on
    asked = parse_frame(sent.whole)
    answer = meter.answer(asked)  # somebody sends the frame of before once more
    assert answer is not None
    assert answer.frame.is_error
    assert meter.meter.supply_on


async def test_what_was_sealed_for_another_meter_opens_nothing(site: Site):
    meter = site.add(made={"needs_module": True})
    mine = switch(route="esam", machine=EncryptionMachine(b"another secret"))
    with pytest.raises(AuthError):
        await order(site, mine, A.DISCONNECT)
    with pytest.raises(AuthError, match="no key"):
        await order(site, switch(route="esam", machine=EncryptionMachine(knows=frozenset())), A.DISCONNECT)
    assert meter.meter.supply_on


async def test_registers_before_and_after(site: Site):
    site.add()
    blocks: list[Block] = []
    await switch().registers(site.talk(), into=blocks)
    assert {each.layout.source for each in blocks} == {Source.COMMAND}


def test_the_edition_of_1997_has_no_switch():
    with pytest.raises(ConfigError, match="no load switch"):
        Dlt645Switch(load_dlt645_profile("dlt645_1997"), "m1", ADDRESS)
