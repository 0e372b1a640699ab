"""Takes up what gateways tell of supply commands: what moves one, and who asks for a go. It sends nothing."""

import threading
from collections.abc import Callable

from headend.audit.chain import Entry
from headend.journal import Entries
from headend.supply.command import Command
from headend.supply.desk import SupplyDesk
from headend.supply.steps import Step
from headend.supply.strangers import Strangers, told_of
from metering.model import JournalEntry
from metering.supply import Action
from metering.supply_states import FINAL, LIMIT_GIVEN_BACK, NOT_SENT, Cause, NoSuchTransitionError, after

MAX_ASKED = 20_000  # commands that ask for a go and wait for it; one beyond asks again


class Hearing:
    """Takes up what gateways tell. Safe in several threads."""

    def __init__(self, desk: SupplyDesk, clock: Callable[[], int]) -> None:
        self._desk = desk
        self._book = desk.book
        self._clock = clock
        self._strangers = Strangers(self._book, clock)
        self._asked: dict[str, None] = {}
        self._lock = threading.Lock()

    def take_asked(self, most: int) -> list[str]:
        """Return commands whose gateways ask for a go, who asked first first; each is returned once."""
        with self._lock:
            found = list(self._asked)[:most]
            for name in found:
                del self._asked[name]
        return found

    def heard(self, entries: Entries) -> None:
        """Take up entries in their order. Raises `StorageError`."""
        self._desk.join()  # a gateway may tell of what the state does not know yet
        for gateway, entry in entries:
            command = self._book.get(entry.id)
            if command is None or command.gateway != gateway:
                self._strangers.heard(gateway, entry)
            elif entry.state == "asks-go":
                with self._lock:
                    if len(self._asked) < MAX_ASKED:
                        self._asked[entry.id] = None
            else:
                self._follow(command, entry)

    def _follow(self, command: Command, entry: JournalEntry) -> None:
        """Move a command as its gateway tells; what does not fit its state is kept as history."""
        actor = f"gateway:{command.gateway}"
        why, cause, detail = told_of(entry)
        try:
            if command.state in NOT_SENT or str(after(command.state, Cause(cause))) != entry.state:
                raise NoSuchTransitionError(f"{entry.state} does not follow {command.state}")
            self._book.move(command.id, Step(Cause(cause), actor, self._clock(), why, detail | {"at": entry.at}))
        except ValueError:  # no such transition, or a cause of another version
            replayed = "again" in detail and command.state in FINAL  # nobody sends here what is at its end
            body = {"state": entry.state[:64], "cause": cause[:64], "why": why, "at": entry.at} | detail
            told = Entry(self._clock(), actor, "command-told", command.id, command.region, body)
            if cause == LIMIT_GIVEN_BACK and command.order.action is Action.LIMIT:
                self._book.limit_ended(command.id, told)
            elif entry.state != command.state or replayed:
                self._book.tell(told)
