"""Readings of the future: how they are held back, and how they come into the log once a rule or a person has decided.

The rule releases by itself only what needs no judgement: readings whose gateway's clock was right when they came, so
that it was the meter's own that ran ahead, as soon as their time has come. Whether a gateway's clock was wrong
(re-time its readings) or the head-end's (release them as they are) no measurement of one against the other can tell:
that is a person's decision. Each release leaves an event at the device, and its row stays as evidence.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from msgspec import structs

from headend import steps
from headend.admission import FUTURE_S
from headend.state.held import HeldBack, HeldBlock
from metering import events, timing
from metering.batch import Batch
from metering.model import SECOND, Block, Event
from metering.quality import Quality
from storage.codec import Origin, pack, unpack
from storage.log import Log

LOOK_S = 2.0  # between two looks for what was decided
AT_ONCE = 500  # blocks of one log record
RULE = "rule:time-has-come"
RULE_REASON = "the gateway's clock was right, the meter's own was ahead; the stamps lie in the past now"


def held_blocks(origin: Origin, blocks: Sequence[Block], now: int, offset_s: float | None) -> list[HeldBlock]:
    """Return the blocks of one record as they are held back; `offset_s` is how far ahead its gateway's clock is."""
    offset = None if offset_s is None else round(offset_s * SECOND)
    where = (origin.gateway, origin.epoch, origin.first)
    return [
        HeldBlock(
            *where,
            number,
            block.device,
            block.layout.source.value,
            block.measured_at,
            now,
            offset,
            len(block.values),
            pack(Batch(now, [block])),
        )
        for number, block in enumerate(blocks)
    ]


class Releaser:
    """Brings what was decided about into the log. `run` until told to stop; `leads` tells whether it is ours to do."""

    def __init__(self, held: HeldBack, log: Log, clock: Callable[[], int] = timing.now) -> None:
        self._held = held
        self._log = log
        self._clock = clock
        self.leads: Callable[[], bool] = lambda: True
        self.released = 0  # blocks, since the start

    async def run(self, stop: asyncio.Event) -> None:
        """Look now and then, until `stop`; what fails is tried again."""
        await steps.repeat(self._all, LOOK_S, stop, "held back readings wait")

    async def _all(self) -> None:
        while await asyncio.to_thread(self.step):
            pass

    def step(self) -> bool:
        """Apply the rule, and release what was decided about; True where there may be more. Blocking.

        A crash between the log and the note of it writes the same readings again: the same channel, time and value.

        Raises:
            StorageError: log or state did not take it; nothing is lost.

        """
        if not self.leads():
            return False
        now = self._clock()
        self._held.release_by_rule(now, FUTURE_S * SECOND, RULE, RULE_REASON)
        due = self._held.due(AT_ONCE)
        if not due:
            return False
        blocks = [freed(each, block) for each in due for block in unpack(each.payload).blocks]
        self._log.append_now([pack(Batch(now, blocks, evidence(due, now)))])
        self._held.done(due, now)
        self.released += len(due)
        return len(due) == AT_ONCE


def freed(held: HeldBlock, block: Block) -> Block:
    """Return a block as it goes into the log.

    Re-timed, it belongs to no boundary any more; re-timed or released by the rule, its time is not to be billed on.
    """
    if held.action != "retime" and not held.actor.startswith("rule:"):
        return block
    marks = [block.quality_of(place) | Quality.CLOCK_SUSPECT for place in range(len(block.values))]
    if held.action != "retime":
        return structs.replace(block, quality=marks)
    return structs.replace(block, measured_at=block.measured_at + held.shift, slot=None, quality=marks)


def evidence(due: Sequence[HeldBlock], now: int) -> tuple[Event, ...]:
    """Return an event for each device, decision and shift, that says who decided what, and why."""
    heaps: dict[tuple[str, str, str, int, str, str], list[HeldBlock]] = defaultdict(list)
    for each in due:
        heaps[each.device, each.gateway, each.action, each.shift, each.actor, each.reason].append(each)
    found = []
    for (device, gateway, action, shift, actor, reason), blocks in heaps.items():
        kind = events.READINGS_RETIMED if action == "retime" else events.READINGS_RELEASED
        detail = {
            "gateway": gateway,
            "by": actor,
            "reason": reason,
            "readings": str(sum(each.readings for each in blocks)),
            "from": timing.to_rfc3339(blocks[0].measured_at),
            "to": timing.to_rfc3339(blocks[-1].measured_at),
        }
        if action == "retime":
            detail["shifted_s"] = f"{shift / SECOND:.3f}"
        found.append(Event(device, now, kind.code, kind.name, now, detail))
    return tuple(found)
