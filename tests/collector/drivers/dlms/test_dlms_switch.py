"""The supply of a simulated DLMS meter over a real connection: state, orders in all control modes, the limiter."""

import pytest

from collector.capabilities import Order, SentFrame
from collector.drivers.dlms_switch import DlmsSwitch
from collector.drivers.dlms_talk import DlmsTalk
from collector.supply_rules import Do, Done, outcome
from metering.errors import NoAnswerError, RefusedError
from metering.model import Block, Source
from metering.supply import Action, SupplyState
from simulators.dlms_faults import DlmsFault
from simulators.dlms_meter import DlmsSettings
from simulators.dlms_supply import Cause
from tests.collector.drivers.dlms.conftest import Open, Site

A = Action
LATER = 2**52


async def ordered(
    site: Site, action: Action, limit_w: int | None = None
) -> tuple[SupplyState, SupplyState, list[SentFrame]]:
    """Do what the executor does: state, plan, act, state."""
    switch = DlmsSwitch(driver := site.driver())
    sent: list[SentFrame] = []

    async def work(talk: DlmsTalk) -> tuple[SupplyState, SupplyState]:
        before = await switch.state(talk)
        step = switch.plan(action, before, limit_w)
        assert isinstance(step, Do), step
        await switch.act(talk, Order(step.action, LATER, limit_w), sent)
        return before, await switch.state(talk)

    before, after = await site.work(driver, work)
    return before, after, sent


@pytest.mark.parametrize("mode", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_a_disconnect_and_a_restore_in_every_control_mode(open_site: Open, mode: int, framing: str):
    async with open_site(DlmsSettings(control_mode=mode), framing=framing) as site:
        before, after, sent = await ordered(site, A.DISCONNECT)
        assert (before.output, before.control, before.mode) == (True, 1, mode)
        assert outcome(A.DISCONNECT, after) == "as-asked"
        assert not site.meter.meter.supply_on
        assert len(sent) == 1
        _, after, _ = await ordered(site, A.RESTORE)
        if mode in {2, 4}:
            assert outcome(A.RESTORE, after) == "as-asked"
        else:
            assert outcome(A.RESTORE, after) == "armed"
            site.meter.switch.push_button(site.meter.now())
        assert site.meter.meter.supply_on


async def test_a_plain_association_switches_as_well_and_the_frame_is_the_standards(open_site: Open):
    async with open_site() as site:
        driver = site.driver(security="none")
        sent: list[SentFrame] = []
        switch = DlmsSwitch(driver)
        await site.work(driver, lambda talk: switch.act(talk, Order(A.DISCONNECT, LATER), sent))
        (frame,) = [each.masked for each in sent]
        assert (
            frame[:2] + frame[3:]
        ).hex() == "c301" + "00460000" + "60030aff" + "01" + "01" + "0f00"  # but its number
        assert not site.meter.meter.supply_on


async def test_it_says_who_it_is(open_site: Open):
    async with open_site() as site:
        switch = DlmsSwitch(driver := site.driver())
        found = await site.work(driver, switch.identities)
        assert found == {f"title:{site.meter.title.hex()}", "serial:70000123"}


async def test_mode_0_is_never_switched(open_site: Open):
    async with open_site(DlmsSettings(control_mode=0)) as site:
        switch = DlmsSwitch(driver := site.driver())
        state = await site.work(driver, switch.state)
        assert not isinstance(switch.plan(A.DISCONNECT, state), Do | Done)


async def test_a_stuck_contact_is_seen(open_site: Open):
    async with open_site() as site:
        site.meter.switch.stuck = True
        _, after, _ = await ordered(site, A.DISCONNECT)
        assert (after.control, after.output) == (0, True)
        assert outcome(A.DISCONNECT, after) == "not-yet"


async def test_a_limit_is_set_and_given_back_to_the_digit(open_site: Open):
    async with open_site() as site:
        site.meter.limiter.normal = 4600
        switch = DlmsSwitch(driver := site.driver())
        before = await site.work(driver, switch.settings)
        assert before.limit_w == 4600
        _, after, _ = await ordered(site, A.LIMIT, 500)
        assert after.limit_w == 500
        assert isinstance(switch.plan(A.LIMIT, after, 500), Done)
        await site.work(driver, lambda talk: switch.act(talk, Order(A.UNLIMIT, LATER, back=before), []))
        assert site.meter.limiter.normal == 4600
        await site.work(driver, lambda talk: switch.act(talk, Order(A.UNLIMIT, LATER), []))
        assert (await site.work(driver, switch.state)).limit_w is None


@pytest.mark.parametrize(("action", "says"), [(0, "no threshold of this meter"), (500, "does nothing when it trips")])
async def test_a_limit_that_would_not_limit_is_refused(open_site: Open, action: int, says: str):
    async with open_site() as site:
        site.meter.limiter.over = 0 if action else 1
        switch = DlmsSwitch(driver := site.driver())
        sent: list[SentFrame] = []
        with pytest.raises(RefusedError, match=says):
            await site.work(driver, lambda talk: switch.act(talk, Order(A.LIMIT, LATER, action), sent))
        assert sent == []


async def test_a_meter_that_refuses_says_so_and_nothing_happened(open_site: Open):
    async with open_site(DlmsSettings(control_mode=1)) as site:
        switch = DlmsSwitch(driver := site.driver())
        sent: list[SentFrame] = []
        with pytest.raises(RefusedError):
            await site.work(driver, lambda talk: switch.act(talk, Order(A.ARM, LATER), sent))  # it is connected
        assert len(sent) == 1
        assert site.meter.meter.supply_on


def counting(site: Site) -> list[str]:
    """Note from now on what moves the switch."""
    moved: list[str] = []
    operate = site.meter.switch.operate

    def noted(cause: Cause, now: int) -> bool:
        moved.append(cause)
        return operate(cause, now)

    site.meter.switch.operate = noted
    return moved


async def test_an_order_whose_answer_is_lost_is_noted_as_sent_and_never_goes_out_again(open_site: Open):
    async with open_site() as site:
        switch = DlmsSwitch(driver := site.driver())
        sent: list[SentFrame] = []
        moved = counting(site)

        async def work(talk: DlmsTalk) -> None:
            site.meter.faults.replace([DlmsFault("lost")])
            await switch.act(talk, Order(A.DISCONNECT, LATER), sent)

        with pytest.raises(NoAnswerError):
            await site.work(driver, work)
        assert (moved, len(sent)) == (["remote_disconnect"], 1)
        assert not site.meter.meter.supply_on


async def test_hdlc_repeats_a_frame_and_the_meter_still_moves_once(open_site: Open):
    async with open_site(framing="hdlc") as site:
        switch = DlmsSwitch(driver := site.driver())
        sent: list[SentFrame] = []
        moved = counting(site)

        async def work(talk: DlmsTalk) -> None:
            site.meter.faults.replace([DlmsFault("lost", times=1)])
            await switch.act(talk, Order(A.DISCONNECT, LATER), sent)

        await site.work(driver, work)
        assert (moved, len(sent)) == (["remote_disconnect"], 1)


async def test_registers_before_and_after_are_readings_of_their_own_kind(open_site: Open):
    async with open_site() as site:
        switch = DlmsSwitch(driver := site.driver())
        blocks: list[Block] = []
        await site.work(driver, lambda talk: switch.registers(talk, into=blocks))
        assert {block.layout.source for block in blocks} == {Source.COMMAND}
        assert "1-0:1.8.0*255" in {column.obis for block in blocks for column in block.layout.columns}
