"""What gives back and waits for a signature: told once each, and counted. It signs nothing and moves nothing.

It may be a customer who paid and sits in the dark, and the service key may not sign it: somebody has to know.
"""

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from headend.measures import Measure
from headend.state.store import State as Database
from headend.state.tables import commands, reminded
from headend.webhooks import Outgoing, enqueue
from metering.errors import StorageError
from metering.model import SECOND
from metering.supply_states import State
from metering.timing import to_rfc3339

PATIENCE_S = 900  # that people have to sign it; what is made anew was signed once, and is told at once
AT_ONCE = 100  # alerts in one look; a campaign is one
ALERT = "what gives back waits for a signature"
_NAME = sa.case((commands.c.campaign != "", commands.c.campaign), else_=commands.c.id)
_WAITS = sa.and_(commands.c.gives_back, commands.c.state == str(State.AWAITING_APPROVAL))


class _Waits(NamedTuple):
    """One command that waits, or a campaign of several."""

    name: str
    command: str
    point: str
    region: str
    campaign: str
    action: str
    renews: str
    since: int
    commands: int


class Unsigned:
    """Looks at what gives back and is not signed. Blocking."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def remind(self, now: int) -> int:
        """Put an alert into the outbox for each that has not had one, and return how many. Raises `StorageError`."""
        if not self._database.read(lambda connection: _due(connection, now, 1)):
            return 0

        def work(connection: sa.Connection) -> int:
            found = _due(connection, now, AT_ONCE)
            if found:
                connection.execute(sa.insert(reminded), [{"name": each.name, "at": now} for each in found])
            enqueue(connection, *(_alert(each, now) for each in found))
            return len(found)

        return self._database.write(work)

    def measures(self, now: int) -> Iterator[Measure]:
        """Yield how many wait, and since when, while the state can tell."""
        query = sa.select(sa.func.count(), sa.func.min(commands.c.changed_at)).where(_WAITS)
        try:
            count, oldest = self._database.read(lambda connection: connection.execute(query).one())
        except StorageError:
            return
        words = "Commands that give back and wait for a signature"
        yield Measure("supply_unsigned", "gauge", words, count)
        age = max(0, now - oldest) / SECOND if oldest is not None else 0
        yield Measure("supply_unsigned_oldest_seconds", "gauge", "Since when the oldest of them waits", age)


def _due(connection: sa.Connection, now: int, limit: int) -> list[_Waits]:
    patient = sa.and_(commands.c.renews == "", commands.c.changed_at > now - PATIENCE_S * SECOND)
    waits = sa.select(commands, _NAME.label("name")).where(_WAITS, ~patient).subquery()
    columns = [waits.c[each] for each in ("id", "point", "region", "campaign", "action", "renews", "changed_at")]
    query = sa.select(waits.c.name, *(sa.func.min(each) for each in columns), sa.func.count())
    query = query.where(~sa.exists().where(reminded.c.name == waits.c.name)).group_by(waits.c.name)
    rows = connection.execute(query.order_by(sa.func.min(waits.c.changed_at), waits.c.name).limit(limit))
    return [_Waits._make(row) for row in rows]


def _alert(found: _Waits, now: int) -> Outgoing:
    why = f"made anew in place of {found.renews}: " if found.renews else ""
    body = {
        "alert": ALERT,
        "command": found.command,
        "campaign": found.campaign or None,
        "commands": found.commands,
        "action": found.action,
        "renews": found.renews or None,
        "since": to_rfc3339(found.since),
        "why": f"{why}the service key did not sign it, so an approver has to",
    }
    return Outgoing("alert", now, found.point if found.commands == 1 else "", found.region, body)
