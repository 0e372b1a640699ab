import asyncio

import pytest

from headend import orders
from headend.orders import ClockSet, Orders
from metering.errors import NoAnswerError


async def test_two_who_order_it_together_share_one_setting_and_hanging_up_does_not_stop_it() -> None:
    done = []

    async def set_clock(device: str, by: str) -> ClockSet:
        await asyncio.sleep(0.01)
        done.append((device, by))
        return ClockSet(device, 1.0, 0.0, "")

    desk = Orders(set_clock)
    first = asyncio.create_task(desk.set_clock("m", "a"))
    second = asyncio.create_task(desk.set_clock("m", "b"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).device == "m"
    assert done == [("m", "a")]
    await desk.set_clock("m", "c")
    assert done[1:] == [("m", "c")]


async def test_an_order_that_takes_too_long_goes_on_without_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "SET_CLOCK_S", 0.01)
    may, done = asyncio.Event(), asyncio.Event()

    async def set_clock(device: str, by: str) -> ClockSet:
        del by
        await may.wait()
        done.set()
        return ClockSet(device, 1.0, 0.0, "")

    with pytest.raises(NoAnswerError):
        await Orders(set_clock).set_clock("m", "a")
    may.set()
    await done.wait()
