"""A long read of a meter's own profile ends at a block border when a command for that very meter comes."""

import asyncio

import pytest

from collector.bus import GaveWayError, Lane
from collector.drivers.dlms_switch import DlmsSwitch
from collector.drivers.dlms_talk import DlmsTalk
from collector.exchange import Exchange, Transact
from metering.model import Block
from metering.supply import SupplyState
from tests.collector.drivers.dlms.conftest import NOW, Open, Site
from tests.collector.drivers.dlms.test_load_profile import DAY, QUARTER, check, reader_of, rows

BLOCKS = 4  # of the transfer that are over when the command comes


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_a_block_transfer_ends_at_a_block_border_for_a_command_and_is_read_again(open_site: Open, framing: str):
    async with open_site(framing=framing) as site:
        end = NOW // QUARTER * QUARTER
        start = end - 20 * DAY
        driver = site.driver()
        reader = reader_of(driver, "load")
        began, said = [], 0
        commands: list[asyncio.Task[SupplyState]] = []
        spoken = site.bus.link.exchange

        async def exchange(asked: Exchange, timeout_s: float) -> bytes:
            nonlocal said
            said += 1
            if transfer.is_set() and not commands:
                blocks_left.pop() if blocks_left else commands.append(asyncio.create_task(command()))
            return await spoken(asked, timeout_s)

        async def command() -> SupplyState:
            asked_at = said

            async def job(transact: Transact) -> SupplyState:
                began.append(said - asked_at)
                async with driver.talk(transact) as talk:
                    return await DlmsSwitch(driver).state(talk)

            return await site.bus.submit(Lane.COMMAND, "m1", job, whole=True)

        transfer, blocks_left = asyncio.Event(), [0] * BLOCKS
        site.bus.link.exchange = exchange
        with pytest.raises(GaveWayError):
            await long_read(site, driver, reader, start, end, transfer)
        assert (await commands[0]).output is True
        assert began == [0]  # nothing was said between: what was in flight was over, and no further block was asked for
        site.bus.link.exchange = spoken
        check(site, await rows(site, driver, reader, end - DAY, end), end - DAY, end)


async def long_read(site: Site, driver, reader, start: int, end: int, transfer: asyncio.Event) -> None:  # noqa: ANN001 - of the fixture
    async def work(talk: DlmsTalk) -> None:
        blocks: list[Block] = []
        await reader.prepare(talk)
        transfer.set()
        await reader.read_profile(talk, start, end, into=blocks)

    async def job(transact: Transact) -> None:
        async with driver.talk(transact) as talk:
            await work(talk)

    await site.bus.submit(Lane.BACKFILL, "m1", job, whole=True, yields=True)


async def test_what_does_not_yield_is_waited_for(open_site: Open):
    async with open_site() as site:
        driver, order = site.driver(), []

        async def poll(talk: DlmsTalk) -> None:
            commands.append(asyncio.create_task(site.bus.submit(Lane.COMMAND, "m1", command, whole=True)))
            await asyncio.sleep(0)
            await DlmsSwitch(driver).state(talk)
            order.append("poll")

        async def command(_: Transact) -> None:
            order.append("command")

        commands: list[asyncio.Task[None]] = []
        await site.work(driver, poll)
        await commands[0]
        assert order == ["poll", "command"]
