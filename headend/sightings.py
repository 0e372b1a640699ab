"""Brings what gateways say of themselves into the state, so that a restart forgets none of it. It decides nothing.

A new run, another log or a gateway that goes is written down at the next look, that one is still there now and then.
"""

import asyncio
from collections.abc import Callable, Mapping

from headend import steps
from headend.state.gateways import Gateways, Sighting
from headend.statuses import Known
from metering.model import SECOND

LOOK_S = 1.0
AGAIN_S = 300.0  # between two writes that say only that a gateway is still there
AT_ONCE = 1000  # gateways that are written together; the others wait for the next look
WAITS = "what gateways say of themselves waits"


class Sightings:
    """Writes down what is `known` of the gateways that this head-end `answers`. `run` until told to stop."""

    def __init__(self, known: Mapping[str, Known], answers: Callable[[str], bool], gateways: Gateways) -> None:
        self._known = known
        self._answers = answers
        self._gateways = gateways
        self._written: dict[str, Sighting] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Write what is due until `stop`, and once more then."""
        await steps.repeat(self.step, LOOK_S, stop, WAITS)
        await steps.attempt(self.step, WAITS)

    async def step(self) -> int:
        """Write what is due and return how many gateways that were. Raises `StorageError`."""
        due = [each for each in map(self._sighting, sorted(self._known)) if each is not None and self._is_due(each)]
        due = due[:AT_ONCE]
        if due:
            await asyncio.to_thread(self._gateways.seen, due)
            self._written.update((each.gateway, each) for each in due)
        return len(due)

    def _sighting(self, gateway: str) -> Sighting | None:
        known = self._known[gateway]
        if known.status is None or known.seen is None or not self._answers(gateway):
            return None
        word = "online" if known.status.online else "offline"
        return Sighting(gateway, known.epoch, known.status.boot, word, known.seen)

    def _is_due(self, now: Sighting) -> bool:
        before = self._written.get(now.gateway)
        return before is None or now[:-1] != before[:-1] or now.at - before.at >= AGAIN_S * SECOND
