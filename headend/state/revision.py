"""The revision of the registry: counted up with every change, so that a reader sees at once what is new. No content.

All who change the registry change this one row, so that they follow one another, and a higher number is a later commit.
"""

import sqlalchemy as sa

from headend.state.registry_tables import revision

_ONLY = 1


def bump(connection: sa.Connection) -> int:
    """Count up within a transaction that changes the registry; return the number for the rows that it writes."""
    connection.execute(sa.update(revision).where(revision.c.id == _ONLY).values(number=revision.c.number + 1))
    return current(connection)


def current(connection: sa.Connection) -> int:
    """Return the number of the last change."""
    return int(connection.execute(sa.select(revision.c.number).where(revision.c.id == _ONLY)).scalar_one())
