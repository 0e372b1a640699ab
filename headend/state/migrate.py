"""Brings a database to this program's schema: once, under a lock, however many head-ends start together.

A step is done in one transaction with its note in `alembic_version`. There is no way back: an older program refuses a
newer schema.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from metering.errors import ConfigError

MIGRATION_LOCK = 0x6D67_7374  # PostgreSQL's advisory lock of our migrations; any number that nobody else takes
LOCK_PATIENCE = "8s"  # of one try while another migrates; shorter than the connection's own time-out
_HOME = Path(__file__).parent / "migrations"


def migrate(engine: sa.Engine) -> None:
    """Take the steps that are missing. `engine` begins a SQLite transaction with the write lock.

    Raises:
        ConfigError: the schema is not known: a newer program made it.
        sqlalchemy.exc.SQLAlchemyError: the database cannot be reached, or refused.

    """
    script = ScriptDirectory(str(_HOME))
    known = {each.revision for each in script.walk_revisions()}
    # Not SERIALIZABLE: its snapshot is taken with the wait for the lock, and would not show what the other did.
    options = {"isolation_level": "READ COMMITTED"} if engine.dialect.name == "postgresql" else {}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_PATIENCE}'"))
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        unknown = set(MigrationContext.configure(connection).get_current_heads()) - known
        if unknown:
            raise ConfigError(
                f"the database has the schema {', '.join(sorted(unknown))}, which this program does not know: "
                "a newer metergate made it; start that one, or put back the database as it was before"
            )
        _upgrade(connection, script)


def _upgrade(connection: sa.Connection, script: ScriptDirectory) -> None:
    def steps(revision: Any, _context: Any) -> Any:  # noqa: ANN401 - Alembic's own types of these are private
        return script._upgrade_revs("head", revision)  # noqa: SLF001 - the function of its upgrade command

    environment = EnvironmentContext(Config(), script)
    environment.configure(connection=connection, fn=steps)
    with environment:
        environment.run_migrations()
