"""What a gateway says of itself to its head-end: its birth until it is answered, its status, and that it goes."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from gateway.uplink_standing import Standing
from metering import wire
from metering.model import SECOND
from metering.timing import now
from metering.wire import Status
from storage.log import Log

BIRTH_S = 10.0  # until a birth without an answer is repeated
STATUS_S = 300.0
MAX_ROUND_TRIP_S = 5.0  # of a birth and its receipt; a longer one says too little of our clock


class Facts(NamedTuple):
    """What the status tells of the gateway."""

    meters: int = 0
    clock_suspect: bool = False
    version: str = ""
    config_version: int = 0


class Presence:
    """Makes the messages of one run, and says when one is due. `facts` tells of the gateway as it is."""

    def __init__(self, log: Log, gateway: str, standing: Standing, facts: Callable[[], Facts]) -> None:
        self._log = log
        self._gateway = gateway
        self._standing = standing
        self._facts = facts
        self._offset_ms: int | None = None
        self._born_at = 0
        self._next = 0.0

    def say_soon(self) -> None:
        """Have the status be due at once."""
        self._next = 0.0

    def answered(self, at: int) -> None:
        """Take the head-end's answer to our birth, made `at` by its clock, and say what that tells of ours."""
        self._offset_ms = _clock_offset_ms(self._born_at, at, now())
        self._next = 0.0

    def due(self) -> bytes | None:
        """Return the status when it is time: at each connect until it is answered, and now and then."""
        if asyncio.get_running_loop().time() < self._next:
            return None
        facts = self._facts()
        self._born_at = now()
        status = Status(
            self._gateway,
            self._standing.epoch,
            self._standing.boot,
            facts.version,
            facts.meters,
            self._log.first_seq,
            self._log.next_seq,
            self._standing.contiguous,
            facts.clock_suspect,
            self._offset_ms,
            at=self._born_at,
            config_version=facts.config_version,
        )
        return wire.encode(status)

    def said(self) -> None:
        """Know that what was due is on its way."""
        pause = STATUS_S if self._standing.answered else BIRTH_S
        self._next = asyncio.get_running_loop().time() + pause

    def gone(self) -> bytes:
        """Return that this run is no more there."""
        return wire.encode(Status(self._gateway, self._standing.epoch, self._standing.boot, online=False, at=now()))


def _clock_offset_ms(born: int, answered: int, now: int) -> int | None:
    """Return how far our clock is ahead of the head-end's; None where the answer took too long to tell.

    `answered` is the head-end's instant between our two; all in microseconds.
    """
    if not 0 <= now - born <= MAX_ROUND_TRIP_S * SECOND:
        return None
    return ((born + now) // 2 - answered) // 1000
