"""A person's orders to a meter that are no reads: its clock. Bounded in time; it drives no bus."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from metering.errors import NoAnswerError

SET_CLOCK_S = 120.0  # after that the caller is let go; the order itself goes on


class ClockSet(msgspec.Struct, frozen=True):
    """A meter's clock before and after it was set: how many seconds it was ahead (negative: behind)."""

    device: str
    offset_before_s: float
    offset_after_s: float
    set_at: str


SetClock = Callable[[str, str], Awaitable[ClockSet]]  # device, and who ordered it


class Orders:
    """Gives orders to an injected callable, one at a time for each device."""

    def __init__(self, set_clock: SetClock) -> None:
        self._set_clock = set_clock
        self._under_way: dict[str, asyncio.Future[ClockSet]] = {}

    async def set_clock(self, device: str, by: str) -> ClockSet:
        """Set a meter's clock. Two who order it together share one setting.

        Raises:
            MeterError: whatever kept it from being set; `NoAnswerError` when it took too long to wait for: it may
                still be done, and the device's events tell.

        """
        order = self._under_way.get(device)
        if order is None:
            order = self._under_way[device] = asyncio.ensure_future(self._set_clock(device, by))
            order.add_done_callback(lambda _: self._under_way.pop(device, None))
        try:
            async with asyncio.timeout(SET_CLOCK_S):
                # A caller who hangs up must not stop it between the setting and what is noted of it.
                return await asyncio.shield(order)
        except TimeoutError as error:
            raise NoAnswerError(
                f"not done within {SET_CLOCK_S:g} s; it may still be, see the device's events", meter=device
            ) from error
