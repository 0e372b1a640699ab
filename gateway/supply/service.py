"""Supply commands at the gateway: takes them in and gives each its turn. What a turn does stands elsewhere.

One command at a time for each meter, and none while it is not known what became of the one before.
"""

import asyncio
import contextlib
from collections.abc import Awaitable

import structlog

from gateway.recorder import Recorder
from gateway.supply.account import Account
from gateway.supply.door import Door
from gateway.supply.executor import Executor
from gateway.supply.giving_back import GivingBack, pause_of
from gateway.supply.goes import Goes
from gateway.supply.items import Held
from gateway.supply.outside import Outside
from gateway.supply.pauses import Pauses
from gateway.supply.progress import Progress
from gateway.supply.record import Record
from gateway.supply.trust import Trust
from gateway.supply.trust_file import TrustFile
from metering.errors import StorageError
from metering.supply import RESTORING, CommandMessage, Go, SupplyCommand
from metering.supply_states import NoSuchTransitionError, State

TICK_S = 1.0
IDLE_S = 10.0  # between two looks while no command is open: for a trust document that was installed meanwhile
AT_ONCE = 16  # commands that are being carried out together
TIDY_S = 3_600.0
UNSETTLED = frozenset({State.EXECUTING, State.UNKNOWN})

logger = structlog.get_logger(__name__)


class SupplyService:
    """All supply commands of one gateway. `run` until told to stop; `take` and `go` at any time while it runs."""

    def __init__(
        self, record: Record, trust: TrustFile, executor: Executor, recorder: Recorder, outside: Outside
    ) -> None:
        self.account = Account(record, recorder)
        self.door = Door(
            self.account,
            recorder,
            outside.now,
            outside.clock_trusted,
            lambda device: outside.meter(device) is not None,
        )
        self._record = record
        self._out = outside
        self._trust = Trust(trust)
        self._goes = Goes()
        self._pauses = Pauses()
        self._progress = Progress(self.account, self._trust, executor, outside, self._goes, self._pauses)
        self._giving_back = GivingBack(self.account, self._trust, executor, outside, self._pauses)
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by device
        self._wake = asyncio.Event()
        self._tidied = 0.0
        self._let_go = 0  # the version of the trust document by which what hangs there no more was let go

    async def take(self, message: CommandMessage) -> None:
        """Take a command in: judged, durable, and reported. Raises `StorageError`."""
        if message.go is not None and message.go.command == message.id:
            self.go(message.go)
        self._trust.renew()
        await self.door.take(message, self._trust.authority)
        self._wake.set()

    def go(self, given: Go) -> None:
        """Take up a go: it is as old as its own stamp says, and as the time since it came, whichever is more."""
        if self._goes.take(given):
            self._pauses.end(given.command)
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Carry out what is due until `stop`."""
        told = asyncio.create_task(self._wake_at(stop))
        await self.account.tell_again()
        while not stop.is_set():
            self._wake.clear()
            self._turn()
            with contextlib.suppress(TimeoutError):
                busy = self._record.open_count or self._record.limits
                await asyncio.wait_for(self._wake.wait(), TICK_S if busy else IDLE_S)
        for task in (told, *self._tasks.values()):
            task.cancel()
        await asyncio.gather(told, *self._tasks.values(), return_exceptions=True)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    def _turn(self) -> None:
        self._tasks = {device: task for device, task in self._tasks.items() if not task.done()}
        self._trust.renew()
        if self._exchanges():
            return
        self._tidy()
        commands = self.account.open_commands()
        unsettled = {command.device for command, held in commands if held.state in UNSETTLED}
        for command, held in sorted(commands, key=_urgency):
            if len(self._tasks) >= AT_ONCE:
                return
            waits = held.state not in UNSETTLED and command.device in unsettled
            if command.device not in self._tasks and not waits and self._pauses.is_due(command.id):
                self._start(command.device, command.id, self._progress.advance(held, command))
        for kept in self._giving_back.due():
            if kept.device not in self._tasks and kept.device not in unsettled:
                self._start(kept.device, pause_of(kept), self._giving_back.give_back(kept))

    def _exchanges(self) -> bool:
        """Take up exchanged meters, before anything else is done by a new trust document; tell whether it is so."""
        document = self._trust.document
        if document is None or document.version == self._let_go:
            return False

        async def let_go() -> None:
            await self._giving_back.let_go()
            self._let_go = document.version

        if "" not in self._tasks:
            self._start("", "", let_go())
        return True

    def _tidy(self) -> None:
        """Forget what is long over, by a clock that is trusted: a wrong one would forget the caps, too."""
        clock = asyncio.get_running_loop().time()
        trusted = self._out.clock_trusted()  # asked at each turn: it must have seen what the clock shows
        if trusted and clock - self._tidied > TIDY_S and "" not in self._tasks:
            self._tidied = clock
            self._start("", "", self.account.tidy(self._out.now()))

    def _start(self, device: str, name: str, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except StorageError as error:
                logger.warning("a supply command waits for the disk", reason=str(error))
                self._pauses.later(name)
            except NoSuchTransitionError as error:
                logger.info("a supply command was moved meanwhile", reason=str(error))
            except Exception:  # the supervisor of commands: a fault of a driver must not end the gateway, nor spin
                logger.exception("a fault while a supply command was carried out", command=name)
                self._pauses.later(name)
            finally:
                self._wake.set()

        self._tasks[device] = asyncio.create_task(guarded())


def _urgency(each: tuple[SupplyCommand, Held]) -> bool:
    """Put what gives back before what withholds; otherwise the order in which they came stays."""
    return each[0].action not in RESTORING
