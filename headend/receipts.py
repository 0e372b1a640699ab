"""Receipts on their way to gateways: who is due one, and at most one of each in a time. It makes none."""

import asyncio
from collections.abc import Callable

from headend.inbox.port import Inbox
from metering import wire
from metering.errors import LinkDownError
from metering.wire import Receipt

RECEIPT_S = 0.2  # at most one receipt of a gateway in this time


class Receipts:
    """Publishes what `receipt` gives for the gateways that are due; None: nothing is to be said now."""

    def __init__(self, inbox: Inbox, receipt: Callable[[str], Receipt | None], published: Callable[[], None]) -> None:
        self._inbox = inbox
        self._receipt = receipt
        self._published = published
        self._due: dict[str, None] = {}
        self._some_due = asyncio.Event()

    def tell(self, gateway: str) -> None:
        """Have a gateway told soon what is committed of it."""
        self._due[gateway] = None
        self._some_due.set()

    async def run(self) -> None:
        """Publish what is due, each gateway at most once in RECEIPT_S, for ever."""
        while True:
            await self._some_due.wait()
            self._some_due.clear()
            due, self._due = self._due, {}
            for gateway in due:
                receipt = self._receipt(gateway)
                if receipt is None:
                    continue
                try:
                    await self._inbox.publish(wire.topic(gateway, "receipt"), wire.encode(receipt), retain=True)
                except LinkDownError:
                    self._due[gateway] = None  # told when the broker is back: `Intake.tell_all`
                    continue
                self._published()
            await asyncio.sleep(RECEIPT_S)
            if self._due and not self._some_due.is_set():
                self._some_due.set()
