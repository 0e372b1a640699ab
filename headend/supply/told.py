"""Which commands of a meter point tell how its supply stands: a query. What they tell is read elsewhere."""

import sqlalchemy as sa

from headend.state.tables import commands
from headend.supply.command import Command
from headend.supply.steps import command_of
from metering.supply import Action
from metering.supply_states import FINAL, State

EACH = 20  # commands of each kind


def telling(connection: sa.Connection, point: str) -> list[Command]:
    """Return what tells of a meter point, and what is under way, the newest first.

    What moved the switch or the limit last is among it, however often the state was read, or an order failed, since.
    """
    read = commands.c.action == str(Action.READ_STATE)
    kinds = (
        sa.or_(commands.c.state.not_in([str(each) for each in FINAL]), commands.c.renew_at > 0),
        sa.and_(commands.c.state.in_([str(State.VERIFIED), str(State.LAPSED)]), ~read),
        commands.c.state.in_([str(each) for each in (State.FAILED, State.REFUSED_BY_METER, State.REFUSED_BY_GUARD)]),
        sa.and_(commands.c.state == str(State.VERIFIED), read),
    )
    found: dict[str, Command] = {}
    for each in kinds:
        newest = sa.select(commands).where(commands.c.point == point, each).order_by(commands.c.changed_at.desc())
        found |= {row.id: command_of(row) for row in connection.execute(newest.limit(EACH))}
    return sorted(found.values(), key=lambda each: (each.requested_at, each.id), reverse=True)
