"""Gateway, head-end and broker killed in mid-stream, again and again: nothing acknowledged is lost, nothing twice."""

import asyncio
import random
import signal
from pathlib import Path

import pytest

from headend.ledger_file import LedgerFile
from storage.log import Log
from tests.faults.place import GATEWAY, Place
from tests.faults.site_process import until

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(300)]
ROUNDS = 3
MANY_ROUNDS = 100
SEED = 4
BURST = 1500
BETWEEN = {  # where a head-end is killed, as Python that makes the N-th passage there the last thing that it does
    "in mid-append, before its log has written": ("storage.log", "Log.append_now", "before", 3),
    "when the log has it and the ledger has not": ("headend.seqs", "Ledger.add", "before", 40),
    "when the ledger has it and no receipt is made": ("headend.intake", "Intake._snapshot", "before", 3),
    "before the receipt goes out": ("headend.inbox.mqtt", "MqttInbox.publish", "before", 3),
    "between the receipt and the acknowledgement": ("headend.inbox.mqtt", "MqttDelivery.ack", "before", 20),
    "when the store has it and its cursor has not": ("storage.projection", "Projection._write", "after", 3),
}
IN_APPEND = {
    "before it writes": ("storage.appender", "Appender.write", "before", 30),
    "when half of it is written": ("os", "pwrite", "half", 30),
    "when it is written and not synced": ("os", "fdatasync", "before", 30),
    "when it is synced and not acknowledged": ("storage.appender", "Appender.write", "after", 30),
    "when its cursor is to be moved": ("storage.cursor", "Cursor.move", "before", 3),
}
DIE_AT = """
import functools, os, signal, {module} as module
*owners, name = "{place}".split(".")
owner = functools.reduce(getattr, owners, module)
kept, left = getattr(owner, name), [{count}]
def die(*given, **named):
    left[0] -= 1
    if left[0] <= 0 and "{when}" == "half":
        kept(given[0], given[1][: len(given[1]) // 2], given[2])
    found = kept(*given, **named) if "{when}" == "after" else None
    if left[0] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return found if "{when}" == "after" else kept(*given, **named)
setattr(owner, name, die)
"""


def committed(place: Place, epoch: str) -> int:
    log = Log.open(place.data / "log")
    try:
        return LedgerFile(place.data / "ledger.msgpack", log).load().of(GATEWAY, epoch).contiguous
    finally:
        log.close()


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(MANY_ROUNDS, marks=pytest.mark.soak)])
async def test_whoever_is_killed_nothing_acknowledged_is_lost_and_receipts_never_run_ahead(tmp_path: Path, rounds: int):
    chance = random.Random(SEED)
    async with Place(tmp_path) as place:
        await place.start_headend()
        await place.start_gateway()
        for number in range(rounds):
            await place.receipted()
            await asyncio.sleep(chance.uniform(0.2, 0.6))
            match number % 3:
                case 0:
                    await place.end("headend", signal.SIGKILL)
                    latest = place.receipts[-1]
                    assert committed(place, latest.epoch) >= latest.contiguous
                    await place.start_headend()
                case 1:
                    await place.end("gateway", signal.SIGKILL)
                    await place.start_gateway()
                case _:
                    await place.broker.kill()
                    await place.broker.start()
        await place.settled()
        await place.check()
    assert len({receipt.epoch for receipt in place.receipts}) == 1


async def test_a_headend_may_die_between_any_two_steps_from_message_to_receipt(tmp_path: Path):
    async with Place(tmp_path) as place:
        await place.start_gateway()
        for where, (module, name, when, count) in BETWEEN.items():
            await place.start_headend(DIE_AT.format(module=module, place=name, when=when, count=count))

            async def dead() -> bool:
                return place.headend is not None and place.headend.returncode == -signal.SIGKILL

            await until(dead, f"the death {where}")
            if place.receipts:
                latest = place.receipts[-1]
                assert committed(place, latest.epoch) >= latest.contiguous, where
        await place.start_headend()
        await place.settled()
        await place.check()


async def test_a_gateway_may_die_at_any_place_of_an_append(tmp_path: Path):
    async with Place(tmp_path) as place:
        await place.start_headend()
        for where, (module, name, when, count) in IN_APPEND.items():
            await place.start_gateway(DIE_AT.format(module=module, place=name, when=when, count=count))

            async def dead() -> bool:
                return place.gateway is not None and place.gateway.returncode == -signal.SIGKILL

            await until(dead, f"the death {where}")
        await place.start_gateway()
        await place.appended(5)
        await place.settled()
        await place.check()


async def test_what_a_broker_acknowledged_and_lost_with_its_life_is_sent_again(tmp_path: Path):
    async with Place(tmp_path) as place:
        await place.start_headend()
        await place.start_gateway(batches=1)
        await place.receipted()
        assert place.headend is not None
        place.headend.send_signal(signal.SIGSTOP)  # connected, and taking nothing: the broker holds all for it
        await place.end("gateway", signal.SIGKILL)
        await place.start_gateway(pause_s=0.0, batches=BURST)
        await place.appended(BURST)
        await place.broker.kill()
        await place.broker.start()
        place.headend.send_signal(signal.SIGCONT)
        await place.settled()
        await place.check()
