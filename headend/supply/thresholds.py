"""How many commands that withhold are requested before a second person has to look. It drops none.

They are counted in the transaction that keeps the new ones: of two requests at the same moment one counts the other.

Facts: the British DCC's anomaly detection, which holds what is above a threshold until it is processed.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from headend.state.tables import commands
from headend.supply.command import Command
from metering.model import SECOND

HOUR, DAY = 3600 * SECOND, 86_400 * SECOND


class Limits(NamedTuple):
    """How many commands of one action that withhold pass without a second person: for one person, and for all.

    A limit below its floor counts among the disconnects.
    """

    user_per_hour: int = 50
    user_per_day: int = 200
    total_per_hour: int = 200
    total_per_day: int = 1000

    def exceeded(self, connection: sa.Connection, made: Sequence[Command]) -> str:
        """Return which threshold the new commands of one request exceed; empty: none."""
        person, now = made[0].requester, made[0].requested_at
        for action, new in sorted(Counter(each.counts_as for each in made).items()):
            for who, since, most, words in (
                (person, now - HOUR, self.user_per_hour, "of one requester in an hour"),
                (person, now - DAY, self.user_per_day, "of one requester in a day"),
                (None, now - HOUR, self.total_per_hour, "of all in an hour"),
                (None, now - DAY, self.total_per_day, "of all in a day"),
            ):
                count = new + _requested(connection, action, since, who)
                if count > most:
                    return f"{count} times {action} {words}; above {most} a second person releases or deletes it"
        return ""


def _requested(connection: sa.Connection, action: str, since: int, person: str | None) -> int:
    """Return how many were requested since then that count as this action, by one person or by all."""
    where = [commands.c.counts_as == action, commands.c.requested_at >= since]
    where += [commands.c.requester == person] if person is not None else []
    query = sa.select(sa.func.count()).select_from(commands).where(*where)
    return int(connection.execute(query).scalar_one())
