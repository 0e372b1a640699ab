"""Moves commands from state to state: durable first, then told to the head-end by the log. It decides nothing."""

import asyncio

import msgspec

from gateway.recorder import Recorder
from gateway.supply.items import Held, Item
from gateway.supply.record import Record
from gateway.unbroken import to_its_end
from metering.supply import SupplyCommand
from metering.supply_states import FINAL, Cause, after

LAST_ENDS = 64  # that are told again after a start: fewer lie between the record and the log at any time


class Account:
    """The record and what is told of it. One writer at a time."""

    def __init__(self, record: Record, recorder: Recorder) -> None:
        self.record = record
        self.writing = asyncio.Lock()
        self._recorder = recorder

    async def move(
        self, name: str, cause: Cause, why: str, at: int, *items: Item, does: str = "", **detail: str
    ) -> None:
        """Put a command into its next state, with what follows from it.

        Raises:
            NoSuchTransitionError: it was moved elsewhere meanwhile (superseded, for example).
            StorageError: the disk refused; it stays where it was.

        """
        async with self.writing:
            held = self.record.held[name]
            state = after(held.state, cause)
            changed = msgspec.structs.replace(held, state=state, cause=cause, why=why, changed_at=at)
            if does:
                changed.does, changed.intent_at = does, at
            await self.durably(changed, *items)
        await self.report(name, state, cause, why, **detail)

    async def put(self, *items: Item) -> None:
        """Make items durable. Raises `StorageError`."""
        async with self.writing:
            await self.durably(*items)

    async def durably(self, *items: Item) -> None:
        """Put items into the record; whoever calls has `writing`. Raises `StorageError`.

        A caller that is cancelled meanwhile still waits for the disk: the file has one writer at a time.
        """
        await to_its_end(asyncio.to_thread(self.record.put, *items))

    async def tidy(self, now: int) -> None:
        """Forget what is long over. Raises `StorageError`."""
        async with self.writing:
            await to_its_end(asyncio.to_thread(self.record.tidy, now))

    async def report(self, name: str, state: str, cause: str, why: str, **detail: str) -> None:
        """Tell the head-end, by the log, and have the log commit at once."""
        self._recorder.journal("supply", name, state, cause=cause, why=why, **detail)
        await self._recorder.commit()

    async def tell_again(self) -> None:
        """Tell how each command stands that is open or has just ended: a crash may lie between the record and the log.

        A head-end that knows it already takes no notice.
        """
        ends = [(name, held) for name, held in self.record.held.items() if held.state in FINAL]
        ends.sort(key=lambda each: each[1].changed_at)
        for name, held in [*ends[-LAST_ENDS:], *self.record.open_items()]:
            self._recorder.journal("supply", name, held.state, cause=held.cause, why=held.why)
        await self._recorder.commit()

    async def ask_go(self, name: str) -> None:
        """Ask the head-end for a go."""
        self._recorder.journal("supply", name, "asks-go")
        await self._recorder.commit()

    def open_commands(self) -> list[tuple[SupplyCommand, Held]]:
        """Return the commands that are not at their end."""
        return [(self.record.command(name), held) for name, held in self.record.open_items()]
