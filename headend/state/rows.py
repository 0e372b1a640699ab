"""Small statements that both databases take alike. No table of its own."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa


def put(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
    """Insert a row, or change the one with the same primary key."""
    key = sa.and_(*(column == values[column.name] for column in table.primary_key))
    rest = {name: value for name, value in values.items() if name not in table.primary_key.columns}
    if connection.execute(sa.select(sa.literal(1)).select_from(table).where(key)).first() is None:
        connection.execute(sa.insert(table).values(dict(values)))
    elif rest:
        connection.execute(sa.update(table).where(key).values(rest))
