"""What gateways journalled, from the head-end's log to whoever wants to know: a cursor, and a handler for each kind.

A handler is given entries again after a crash, so it takes the same entry twice for once. It knows no kind itself.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from metering.errors import StorageError
from metering.model import JournalEntry
from storage.codec import is_quiet, origin_of, unpack_journal
from storage.log import Log, Record

CURSOR = "journal"
RECORDS = 256  # that are looked into together
FIRST_PAUSE_S = 0.5  # while a handler cannot do its work; doubled each time
LONGEST_PAUSE_S = 30.0

Entries = Sequence[tuple[str, JournalEntry]]  # gateway and what it said, in the order of the log
Handler = Callable[[Entries], None]

_log = structlog.get_logger(__name__)


class JournalReader:
    """Reads the log and hands the entries of each kind to its handler, in a thread. `run` until told to stop.

    The cursor moves when the handlers have returned: their work is durable then. `StorageError` from one is tried
    again, after a pause that grows. `here` is the gateway whose own log it is, where no head-end is between.
    """

    def __init__(self, log: Log, handlers: Mapping[str, Handler], here: str = "") -> None:
        self._log = log
        self._here = here
        self._handlers = dict(handlers)
        self._cursor = log.cursor(CURSOR, "first")

    @property
    def position(self) -> int:
        """Return the seq of the log before which all was handed on."""
        return self._cursor.position

    async def run(self, stop: asyncio.Event) -> None:
        """Hand entries on until `stop`."""
        ended = asyncio.ensure_future(stop.wait())
        pause = 0.0
        while not stop.is_set():
            more = asyncio.ensure_future(self._log.wait_for(self.position) if not pause else asyncio.sleep(pause))
            await asyncio.wait((ended, more), return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                more.cancel()
                break
            try:
                await asyncio.to_thread(self.step)
                pause = 0.0
            except (StorageError, OSError) as error:
                _log.warning("journals of gateways wait", reason=str(error))
                pause = min(LONGEST_PAUSE_S, 2 * pause or FIRST_PAUSE_S)

    def step(self) -> None:
        """Hand on what some records hold. Blocking. Raises `StorageError`, `OSError`."""
        position = self.position
        found: dict[str, list[tuple[str, JournalEntry]]] = {}
        for item in self._log.read(position, RECORDS):
            position = (item.seq if isinstance(item, Record) else item.to_seq) + 1
            if isinstance(item, Record):
                self._look(item, found)
        for kind, entries in found.items():
            self._handlers[kind](entries)
        if position != self.position:
            self._cursor.move(position)

    def _look(self, record: Record, found: dict[str, list[tuple[str, JournalEntry]]]) -> None:
        if is_quiet(record.payload):
            return
        try:
            origin = origin_of(record.payload)
            gateway = origin.gateway if origin is not None else self._here
            entries = unpack_journal(record.payload) if gateway else ()
        except ValueError as error:  # the projection tells it and puts it aside
            _log.debug("a record without a journal that can be read", seq=record.seq, reason=str(error))
            return
        for entry in entries:
            if entry.kind in self._handlers:
                found.setdefault(entry.kind, []).append((gateway, entry))
