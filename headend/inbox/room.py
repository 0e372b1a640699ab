"""Where deliveries wait for the intake: bounded in number and bytes. It knows no engine."""

import asyncio
from collections import deque
from collections.abc import Sequence

from headend.inbox.port import Delivery

MAX_WAITING = 10_000  # messages, and
MAX_WAITING_BYTES = 64 << 20  # their bytes together


class Room:
    """First in, first out."""

    def __init__(self) -> None:
        self._waiting: deque[Delivery] = deque()
        self._bytes = 0
        self._there = asyncio.Event()
        self._less = asyncio.Event()

    def has_room(self, size: int) -> bool:
        """Tell whether so many bytes more may wait."""
        return len(self._waiting) < MAX_WAITING and self._bytes + size <= MAX_WAITING_BYTES

    async def wait_for_room(self, size: int) -> None:
        """Wait until so many bytes more may wait."""
        while not self.has_room(size):
            self._less.clear()
            await self._less.wait()

    def put(self, delivery: Delivery) -> None:
        """Add a delivery."""
        self._waiting.append(delivery)
        self._bytes += len(delivery.payload)
        self._there.set()

    async def fetch(self, most: int) -> Sequence[Delivery]:
        """Wait for a delivery; return it and what else is there, at most `most`."""
        while not self._waiting:
            self._there.clear()
            await self._there.wait()
        found = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._bytes -= sum(len(each.payload) for each in found)
        self._less.set()
        return found
