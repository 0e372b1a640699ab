"""Reading a meter now, for a person or the office: shared, limited per token and bounded in time. It drives no bus."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from metering.errors import NoAnswerError
from metering.model import Block

READ_TIMEOUT_S = 30.0
READS_PER_MINUTE = 30  # for each token: the bus belongs to the schedule
TOKENS_REMEMBERED = 1024

ReadDevice = Callable[[str], Awaitable[Sequence[Block]]]


class TooManyReadsError(Exception):
    """A token asks for more readings than its share of the bus. `retry_s` says when it may ask again."""

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"at most {READS_PER_MINUTE} readings on demand a minute for each token")
        self.retry_s = retry_s


class OnDemand:
    """Asks an injected callable for one device at a time. Those who ask together share one reading of the meter."""

    def __init__(self, read_device: ReadDevice) -> None:
        self._read_device = read_device
        self._under_way: dict[str, asyncio.Task[Sequence[Block]]] = {}
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def read(self, device: str, token: str) -> Sequence[Block]:
        """Return what the meter says now. Repeating it is harmless.

        Raises:
            TooManyReadsError: the token's share is used up.
            MeterError: whatever kept the meter from being read; `NoAnswerError` after `READ_TIMEOUT_S`.

        """
        self._spend(token)
        task = self._under_way.get(device)
        if task is None:
            task = self._under_way[device] = asyncio.create_task(self._read(device))
            task.add_done_callback(lambda _: self._under_way.pop(device, None))
        # One caller who hangs up must not take the answer from the others.
        return await asyncio.shield(task)

    async def _read(self, device: str) -> Sequence[Block]:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._read_device(device)
        except TimeoutError as error:
            raise NoAnswerError(f"no answer within {READ_TIMEOUT_S:g} s", meter=device) from error

    def _spend(self, token: str) -> None:
        """Take one from the token's share, which fills up again evenly."""
        now = time.monotonic()
        spent, since = self._spent.pop(token, (0.0, now))
        spent = max(0.0, spent - (now - since) * READS_PER_MINUTE / 60)
        if spent + 1 > READS_PER_MINUTE:
            self._spent[token] = spent, now
            raise TooManyReadsError(max(1, round(60 / READS_PER_MINUTE)))
        self._spent[token] = spent + 1, now
        while len(self._spent) > TOKENS_REMEMBERED:
            self._spent.popitem(last=False)
