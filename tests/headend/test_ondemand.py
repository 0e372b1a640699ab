import asyncio
from collections.abc import Sequence

import pytest

from headend import ondemand
from headend.ondemand import OnDemand, TooManyReadsError
from metering.errors import NoAnswerError
from metering.model import Block


async def test_those_who_ask_together_share_one_reading_of_the_meter() -> None:
    asked = []

    async def read(device: str) -> Sequence[Block]:
        asked.append(device)
        await asyncio.sleep(0.01)
        return []

    desk = OnDemand(read)
    await asyncio.gather(*(desk.read("m", token) for token in "abc"), desk.read("n", "a"))
    assert sorted(asked) == ["m", "n"]
    await desk.read("m", "a")
    assert sorted(asked) == ["m", "m", "n"]


async def test_one_who_hangs_up_does_not_take_the_answer_from_the_others() -> None:
    async def read(_: str) -> Sequence[Block]:
        await asyncio.sleep(0.02)
        return []

    desk = OnDemand(read)
    first = asyncio.create_task(desk.read("m", "a"))
    second = asyncio.create_task(desk.read("m", "b"))
    await asyncio.sleep(0.005)
    first.cancel()
    assert await second == []


async def test_a_meter_that_takes_too_long_has_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ondemand, "READ_TIMEOUT_S", 0.01)

    async def read(_: str) -> Sequence[Block]:
        await asyncio.sleep(10)
        return []

    with pytest.raises(NoAnswerError):
        await OnDemand(read).read("m", "a")


async def test_a_token_has_its_share_and_no_more() -> None:
    async def read(_: str) -> Sequence[Block]:
        return []

    desk = OnDemand(read)
    for _ in range(ondemand.READS_PER_MINUTE):
        await desk.read("m", "a")
    with pytest.raises(TooManyReadsError):
        await desk.read("m", "a")
    assert await desk.read("m", "b") == []
