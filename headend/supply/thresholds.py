"""How many commands that withhold are requested before a second person has to look. It drops none.

Facts: the British DCC's anomaly detection, which holds what is above a threshold until it is processed.
"""

from typing import NamedTuple

from headend.supply.book import Book
from metering.model import SECOND
from metering.supply import Action

HOUR, DAY = 3600 * SECOND, 86_400 * SECOND


class Limits(NamedTuple):
    """How many commands of one action that withhold pass without a second person: for one token, and for all."""

    user_per_hour: int = 50
    user_per_day: int = 200
    total_per_hour: int = 200
    total_per_day: int = 1000

    def exceeded(self, book: Book, token: str, action: Action, new: int, now: int) -> str:
        """Return which threshold so many new commands exceed; empty: none. Raises `StorageError`."""
        for who, since, most, words in (
            (token, now - HOUR, self.user_per_hour, "of one requester in an hour"),
            (token, now - DAY, self.user_per_day, "of one requester in a day"),
            (None, now - HOUR, self.total_per_hour, "of all in an hour"),
            (None, now - DAY, self.total_per_day, "of all in a day"),
        ):
            count = new + book.requested_since(who, action, since)
            if count > most:
                return f"{count} times {action} {words}; above {most} a second person releases or deletes it"
        return ""
