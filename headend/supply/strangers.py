"""What gateways tell of commands that were not made here: somebody else speaks to them. It follows none of it."""

from collections import deque
from collections.abc import Callable

import structlog

from headend.audit.chain import Entry
from headend.supply.book import Book
from headend.webhooks import Outgoing
from metering.model import SECOND, JournalEntry

A_MINUTE = 120  # that are kept one by one: more must not fill the audit
MAX_DETAILS = 16  # of what a gateway tells with one entry
MAX_DETAIL = 8_000  # characters of one

_log = structlog.get_logger(__name__)


class Strangers:
    """Takes up what a gateway tells of a command that it was not sent from here. Raises `StorageError`."""

    def __init__(self, book: Book, clock: Callable[[], int]) -> None:
        self._book = book
        self._clock = clock
        self._kept: deque[int] = deque(maxlen=A_MINUTE)

    def heard(self, gateway: str, entry: JournalEntry) -> None:
        """Keep it in the audit, with an alert; of a flood only some."""
        now = self._clock()
        _log.warning("a gateway tells of a command that is not its own", gateway=gateway, command=entry.id[:64])
        if len(self._kept) == A_MINUTE and now - self._kept[0] < 60 * SECOND:
            return
        self._kept.append(now)
        why, cause, detail = told_of(entry)
        body = {"state": entry.state[:64], "cause": cause, "why": why, "at": entry.at} | detail
        told = {"gateway": gateway, "command": entry.id[:64], "state": entry.state[:64], "why": why}
        self._book.tell(
            Entry(now, f"gateway:{gateway}", "command-stranger", entry.id[:64], "", body),
            alert=Outgoing("alert", now, "", "", {"alert": "a command that was not sent from here", **told}),
        )


def told_of(entry: JournalEntry) -> tuple[str, str, dict[str, str]]:
    """Return why, the cause and what else a gateway tells with an entry, each within its bounds."""
    detail = {key[:64]: value[:MAX_DETAIL] for key, value in list(entry.detail.items())[:MAX_DETAILS]}
    return detail.pop("why", "")[:1000], detail.pop("cause", "")[:64], detail
