"""What else there is at the meter points of new commands, within their transaction. It keeps nothing."""

from collections.abc import Sequence

import sqlalchemy as sa

from headend.state.tables import commands
from headend.supply.steps import parts
from metering.supply import WITHHOLDING, Action
from metering.supply_states import FINAL, NOT_SENT


def is_due(connection: sa.Connection, name: str) -> bool:
    """Tell whether a command is to be made anew."""
    query = sa.select(commands.c.renew_at).where(commands.c.id == name)
    return bool(connection.execute(query).scalar_one_or_none())


def renew_no_more(connection: sa.Connection, points: Sequence[str]) -> None:
    """Make nothing anew at these meter points."""
    for some in parts(points):
        due = sa.and_(commands.c.point.in_(some), commands.c.renew_at > 0)
        connection.execute(sa.update(commands).where(due).values(renew_at=0))


def open_at(connection: sa.Connection, points: Sequence[str]) -> dict[str, str]:
    """Return the open commands at these meter points, and those that are made anew soon.

    Reading a state is in nobody's way.
    """
    is_open = sa.or_(commands.c.state.not_in([str(each) for each in FINAL]), commands.c.renew_at > 0)
    return _at(connection, points, is_open, commands.c.action != Action.READ_STATE)


def waiting_at(connection: sa.Connection, points: Sequence[str]) -> list[str]:
    """Return what withholds at these meter points and has not been sent."""
    waits = commands.c.state.in_([str(each) for each in NOT_SENT])
    return list(_at(connection, points, waits, commands.c.action.in_([str(each) for each in WITHHOLDING])).values())


def _at(connection: sa.Connection, points: Sequence[str], *where: sa.ColumnElement[bool]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in parts(points):
        query = sa.select(commands.c.point, commands.c.id).where(commands.c.point.in_(some), *where)
        found |= {row.point: row.id for row in connection.execute(query)}
    return found
