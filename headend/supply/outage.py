"""What gives back while the state takes nothing: kept in a file, sent from there, and joined to the state later.

A restore does not wait for a database (DOMAIN 23). It is durable here before it leaves, the gateway judges its
signatures as ever, and its request, its approval and its sending join the audit as soon as that takes them.
"""

import threading
from collections.abc import Callable

import msgspec

from headend.audit.chain import Entry
from headend.audit.spool import Spool
from headend.supply.book import Book, New
from headend.supply.command import Command
from headend.supply.steps import Step
from metering.supply_states import Cause, State

MAX_KEPT = 5_000  # restores that wait for the state; a further one is refused, and so tried again by who asked

ACTOR = "head-end"
KIND = "restore-kept"


class Kept(msgspec.Struct, frozen=True):
    """A command that the state does not know yet: who asked for it with which key, and who approved it when.

    It may leave once somebody approved it (`approved_by` an actor of the audit). `sent_at` in us UTC; 0: not yet.
    """

    command: Command
    key: str
    digest: bytes
    approved_by: str = ""
    approved_at: int = 0
    sent_at: int = 0
    sent: int = 0

    def steps(self) -> list[Step]:
        """Return the steps that it has gone."""
        first, actor = self.command.requested_at, f"token:{self.command.token}"
        found = [Step(Cause.POLICY_PASSED, actor, first, "the state took nothing: it was kept in a file")]
        if self.approved_by:
            found.append(Step(Cause.APPROVALS_COMPLETE, self.approved_by, self.approved_at))
        if self.sent_at:
            found.append(Step(Cause.WINDOW_OPEN, ACTOR, self.sent_at))
            found.append(Step(Cause.DISPATCHED, ACTOR, self.sent_at))
        return found

    def shown(self) -> Command:
        """Return the command as it stands."""
        state = State.AWAITING_APPROVAL
        if self.approved_by:
            state = State.SENT if self.sent_at else State.APPROVED
        return msgspec.structs.replace(self.command, state=state)


class Outage:
    """Commands that wait for the state. Safe in several threads; one process at a time."""

    def __init__(self, spool: Spool, clock: Callable[[], int]) -> None:
        self._spool = spool
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, Kept] = {}
        for entry in spool.waiting():
            self._kept[entry.subject] = msgspec.convert(entry.body, Kept)
        self._last_number = max((each.command.order.seq for each in self._kept.values()), default=0)

    def numbers(self, _gateway: str, count: int) -> int:
        """Return a first number above all that the state ever gave: its clock in us. Those that follow are higher."""
        with self._lock:
            first = max(self._clock(), self._last_number + 1)
            self._last_number = first + count - 1
            return first

    def get(self, name: str) -> Kept | None:
        """Return what is kept under an id."""
        return self._kept.get(name)

    def answered(self, token: str, key: str) -> Kept | None:
        """Return what the same token asked for with the same key."""
        mine = (each for each in list(self._kept.values()) if (each.command.token, each.key) == (token, key))
        return next(mine, None)

    def all(self) -> list[Kept]:
        """Return all that waits for the state, the oldest first."""
        return list(self._kept.values())

    def put(self, kept: Kept) -> None:
        """Keep a command as it is now: durable when this returns. Raises `StorageError`."""
        command = kept.command
        entry = Entry(self._clock(), ACTOR, KIND, command.id, command.region, msgspec.to_builtins(kept))
        with self._lock:
            if command.id not in self._kept and len(self._kept) >= MAX_KEPT:
                raise self._spool.full()
            self._spool.put(entry)
            self._kept[command.id] = kept

    def sent(self, name: str, now: int) -> None:
        """Note that one was sent; not durable, as sending it twice does no harm."""
        with self._lock:
            if (kept := self._kept.get(name)) is not None:
                self._kept[name] = msgspec.structs.replace(kept, sent_at=now, sent=kept.sent + 1)

    def join(self, book: Book) -> int:
        """Let all that waits join the state and its audit, and return how many did. Raises `StorageError`."""
        if not self._kept:
            return 0
        with self._lock:
            for kept in self._kept.values():
                _join(kept, book)
            count = len(self._kept)
            self._spool.clear()
            self._kept.clear()
            return count


def _join(kept: Kept, book: Book) -> None:
    command = msgspec.structs.replace(kept.command, sent_at=kept.sent_at, sent=kept.sent)
    book.number_beyond(command.gateway, command.order.seq)
    if book.get(command.id) is not None:
        return  # of a try that broke off before the file was emptied
    # The same request may have been answered before the state went: its key is taken then.
    key = kept.key if book.answered(command.token, kept.key) is None else ""
    new = New(key, kept.digest, b"", f"token:{command.token}", command.signed, supersedes=True)
    book.add([(command, kept.steps())], new)
