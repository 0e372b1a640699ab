"""What all wires share over one connection: connecting, backing off, letting go, and who waits. It knows no frames."""

import asyncio
import time
from collections.abc import Callable

from collector.exchange import Exchange
from collector.links.link import Backoff, LinkParameters, LinkStatus, Pulse
from collector.links.wire import Wire
from metering.errors import LinkDownError, MeterError

MakeWire = Callable[[Callable[[bytes], None], Callable[[str], None]], Wire]


class Connection:
    """The connection of a `Link`. `make_wire(received, lost)` returns a wire that is not connected yet.

    `_waiting` is the future of the exchange under way, `_asked` what was asked last.
    """

    def __init__(self, name: str, parameters: LinkParameters, make_wire: MakeWire) -> None:
        self.name = name
        self.parameters = parameters
        self.sent_at = 0.0
        self._make_wire = make_wire
        self._wire: Wire | None = None
        self._backoff = Backoff()
        self._waiting: asyncio.Future[bytes] | None = None
        self._asked: Exchange | None = None
        self._pulse = Pulse()
        self._connects = 0
        self._strays = 0
        self._last_error = ""

    def reachable(self) -> bool:
        """Tell whether the wire is connected or may be connected at once."""
        return self._wire is not None or time.monotonic() >= self._backoff.next_at

    def status(self) -> LinkStatus:
        """Return how the wire fares."""
        return LinkStatus(self._wire is not None, self._connects, self._strays, self._last_error)

    async def close(self) -> None:
        """Disconnect. The next exchange connects again."""
        self._drop("closed")

    async def _connect(self) -> Wire:
        now = time.monotonic()
        if now < self._backoff.next_at:
            raise LinkDownError(f"{self.name}: {self._last_error}; next attempt in {self._backoff.next_at - now:.1f} s")
        self._loop = asyncio.get_running_loop()
        wire = self._make_wire(self._received, self._lost)
        try:
            await wire.open()
        except LinkDownError as error:
            self._last_error = str(error)
            self._backoff.fail(time.monotonic())
            raise
        self._wire = wire
        self._connects += 1
        self._pulse = Pulse()
        self._opened()
        return wire

    def _opened(self) -> None:
        """Forget what belonged to the connection before."""
        raise NotImplementedError

    def _received(self, data: bytes) -> None:
        """Take what came over the wire."""
        raise NotImplementedError

    def _lost(self, reason: str) -> None:
        self._wire = None
        if not self._pulse.alive:  # taken in and thrown out: a peer that has all it wants, a port that opens and fails
            self._backoff.fail(time.monotonic())
        self._drop(reason)

    def _drop(self, reason: str) -> None:
        """Let the connection go; who waits for an answer is told that it was the link."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
        self._last_error = reason
        self._settle(self._gone())

    def _gone(self) -> LinkDownError:
        return LinkDownError(f"{self.name}: connection lost: {self._last_error}")

    def _settle(self, outcome: bytes | MeterError) -> None:
        future = self._waiting
        if future is None or future.done():
            return
        if isinstance(outcome, bytes):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    def _answered(self, unit: int) -> None:
        """Note that this unit answered."""
        if not self._pulse.alive:
            self._backoff.succeed()
        self._pulse.beat(unit)
