"""What is due is done until the stop, whatever is away meanwhile; why it waits is told once."""

import asyncio

import pytest
from structlog.testing import capture_logs

from headend import steps
from metering.errors import LinkDownError, StorageError


async def test_a_step_that_fails_is_taken_again_and_each_reason_is_told_once():
    stop = asyncio.Event()
    full, no_broker = StorageError("full", retry=True), LinkDownError("no broker")
    away = [full, full, no_broker, None, full]
    taken: list[Exception | None] = []

    async def step() -> None:
        taken.append(away[len(taken)])
        if len(taken) == len(away):
            stop.set()
        if (error := taken[-1]) is not None:
            raise error

    with capture_logs() as told:
        await steps.repeat(step, 0.001, stop, "keys wait")
    assert taken == away
    assert [each["reason"] for each in told] == ["full", "no broker", "full"]
    assert {(each["event"], each["log_level"]) for each in told} == {("keys wait", "warning")}


async def test_a_stop_ends_the_rest_between_two_steps():
    stop = asyncio.Event()
    taken = []

    async def step() -> None:
        taken.append(stop.is_set())
        asyncio.get_running_loop().call_soon(stop.set)

    await asyncio.wait_for(steps.repeat(step, 3600.0, stop, "keys wait"), 60)
    assert taken == [False]


async def test_what_is_no_waiting_is_not_held_up():
    async def step() -> None:
        raise ValueError("a fault of ours")

    with pytest.raises(ValueError, match="of ours"):
        await steps.repeat(step, 0.001, asyncio.Event(), "keys wait")
