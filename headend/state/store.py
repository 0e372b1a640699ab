"""The connection to the state: transactions, tries and errors in words. What stands in the tables it does not know.

SQLite is one file beside the log. PostgreSQL is shared by several head-ends: each transaction is serializable there,
so that a check and the write that rests on it are one. SQLite has the same by taking its write lock first.
"""

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from headend.state.migrate import migrate
from headend.state.tables import audit_turn, metadata
from metering.errors import ConfigError, StorageError

MAX_TRIES = 12  # of one transaction
LOSSES = 3  # to other transactions, after which it has the tables for itself: a busy neighbour shuts nobody out
PATIENCE_S = 15.0  # and no try begins later than this: a server's restart fits into it
FIRST_PAUSE_S = 0.02  # doubled each time, with jitter
LONGEST_PAUSE_S = 2.0
DOWN_S = (
    30.0  # after a patience that was in vain, each transaction is tried once: nobody queues up behind a dead server
)
BUSY_TIMEOUT_MS = 5_000  # how long SQLite waits while another process writes
CONNECT_TIMEOUT_S = 10
IDLE_LIMIT_MS = 3_000  # a head-end that sleeps within a transaction is cut, or its locks would hold up all others
LOCK_LIMIT_MS = 5_000
POOL_SIZE = 4
POOL_OVERFLOW = 4

# Serialization failure, deadlock, lock not available; a key that another transaction has just taken; server going down,
# crashed, starting up; a session that slept too long within a transaction.
_TRY_AGAIN = frozenset(("40001", "40P01", "55P03", "23505", "57P01", "57P02", "57P03", "25P03"))
_BEATEN = frozenset(("40001", "40P01", "55P03"))
_GONE = frozenset(("57P01", "57P02", "57P03", "25P03"))

_Result = TypeVar("_Result")
_Work = Callable[[sa.Connection], _Result]


class State:
    """One database of head-end state. Safe for several threads and processes. Blocking."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._closed = threading.Event()
        self._down_until = 0.0
        self._writer = engine.execution_options(metergate_write=True)
        self._queue = Queue()

    @classmethod
    def open(cls, url: str | Path, password: str | None = None) -> "State":
        """Open a file (a path, or `sqlite:///path`) or a server (`postgresql://user@host:port/name`) with its password.

        The schema is brought up to date first.

        Raises:
            ConfigError: the address is not one of these, or a newer program made the schema.
            StorageError: the database cannot be reached.

        """
        address = _address(url)
        if password is not None:
            address = address.set(password=password)
        engine = _engine(address)
        state = cls(engine, address.render_as_string(hide_password=True))
        try:
            state._patiently(lambda _losses: migrate(state._writer))
        except BaseException:
            state.close()
            raise
        return state

    def read(self, work: _Work[_Result]) -> _Result:
        """Run `work` in a transaction that sees one state of the database. Raises `StorageError`."""
        return self._patiently(lambda _losses: _transact(self._engine, work))

    def write(self, work: _Work[_Result]) -> _Result:
        """Run `work` in a transaction and commit it: durable when this returns. Raises `StorageError`.

        It is run again where the database asks for it or the connection broke. Where it broke within the commit nobody
        knows whether it was done: `work` therefore finds what it wrote and counts it as its own.
        """
        return self._patiently(lambda losses: self._in_turn(work, alone=losses >= LOSSES))

    def write_in_turn(self, work: _Work[_Result]) -> _Result:
        """Run `work`, which appends to the audit, as `write` does, after what came before and before what comes after.

        All that appends meets at the audit's end: in PostgreSQL it queues up there before it reads anything, and so
        loses to nobody. In SQLite each write of this process has its turn.
        """
        return self._patiently(lambda losses: self._in_turn(work, alone=losses >= LOSSES, audited=True))

    def _in_turn(self, work: _Work[_Result], *, alone: bool, audited: bool = False) -> _Result:
        if self._engine.dialect.name != "postgresql":
            with self._queue:
                return _transact(self._writer, work)
        if alone:
            return _transact(self._writer, work, f"{', '.join(metadata.tables)} IN SHARE ROW EXCLUSIVE MODE")
        return _transact(self._writer, work, f"{audit_turn.name} IN SHARE UPDATE EXCLUSIVE MODE" if audited else "")

    def close(self) -> None:
        """Close all connections; a transaction that waits for its next try gives up."""
        self._closed.set()
        self._engine.dispose()

    def __repr__(self) -> str:
        return f"State({self._name})"

    def _patiently(self, once: Callable[[int], _Result]) -> _Result:
        """Run `once` until it succeeds or there is no more use; it is told how often it lost to other transactions."""
        begun = time.monotonic()
        end = begun + (PATIENCE_S if begun >= self._down_until else 0.0)
        pause = FIRST_PAUSE_S
        losses = 0
        for number in range(1, MAX_TRIES + 1):
            try:
                result = once(losses)
            except (sa.exc.SQLAlchemyError, OSError) as error:  # pg8000 lets a reset within a commit through as it is
                again = _may_try_again(error)
                if not again or number == MAX_TRIES or time.monotonic() + pause > end:
                    if again and _is_gone(error):
                        self._down_until = time.monotonic() + DOWN_S
                    raise StorageError(f"the head-end state in {self._name}: {cause(error)}", retry=again) from None
                losses += _was_beaten(error)
            else:
                self._down_until = 0.0
                return result
            if self._closed.wait(pause * random.uniform(0.5, 1.0)):  # noqa: S311 - only spreads tries
                break
            pause = min(2 * pause, LONGEST_PAUSE_S)
        raise StorageError(f"the head-end state in {self._name} is closed", retry=False)


class Queue:
    """Lets threads have something one after the other in the order in which they came; a lock wakes just anybody."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @property
    def length(self) -> int:
        """Return how many have it or wait for it."""
        return len(self._waiting)

    def __enter__(self) -> None:
        """Wait for the turn."""
        mine = threading.Event()
        with self._mutex:
            self._waiting.append(mine)
            if self._waiting[0] is mine:
                return
        mine.wait()

    def __exit__(self, *_: object) -> None:
        """Let the next one have it."""
        with self._mutex:
            self._waiting.popleft()
            if self._waiting:
                self._waiting[0].set()


def _transact(engine: sa.Engine, work: _Work[_Result], locked: str = "") -> _Result:
    with engine.begin() as connection:
        if locked:
            # The first statement, so that the snapshot is taken with the locks held: nobody can write past it then.
            connection.exec_driver_sql(f"LOCK TABLE {locked}")
        return work(connection)


def cause(error: sa.exc.SQLAlchemyError | OSError) -> str:
    """Return the database's own words: SQLAlchemy's would print the statement with its parameters."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if not isinstance(error, sa.exc.DBAPIError):
        return type(error).__name__
    details = _details(error.orig)
    return details.get("M", type(error.orig).__name__) if details else str(error.orig)


def _details(error: BaseException | None) -> dict[str, str]:
    """Return PostgreSQL's fields of an error; `D` of them holds values, and is never shown."""
    first = error.args[0] if error is not None and error.args else None
    return first if isinstance(first, dict) else {}


def _was_beaten(error: sa.exc.SQLAlchemyError | OSError) -> bool:
    """Tell whether another transaction was the cause."""
    return isinstance(error, sa.exc.DBAPIError) and _details(error.orig).get("C") in _BEATEN


def _may_try_again(error: sa.exc.SQLAlchemyError | OSError) -> bool:
    if isinstance(error, OSError):
        return True
    if not isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.TimeoutError)
    if error.connection_invalidated or _details(error.orig).get("C") in _TRY_AGAIN:
        return True
    words = str(error.orig)
    return _lost(error.orig) or "locked" in words or "busy" in words


def _is_gone(error: sa.exc.SQLAlchemyError | OSError) -> bool:
    """Tell whether nobody answers, rather than that others were faster."""
    return isinstance(error, OSError) or (isinstance(error, sa.exc.DBAPIError) and _lost(error.orig))


def _lost(error: BaseException | None) -> bool:
    """Tell whether the server is not there: pg8000 says so in an InterfaceError without PostgreSQL's fields."""
    return _details(error).get("C") in _GONE or type(error).__name__ == "InterfaceError"


def _address(url: str | Path) -> sa.URL:
    if isinstance(url, Path):
        return sa.URL.create("sqlite", database=str(url))
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigError("the address of the head-end state cannot be read") from None
    if address.drivername in {"postgresql", "postgres"}:
        return address.set(drivername="postgresql+pg8000")
    if address.drivername not in {"sqlite", "postgresql+pg8000"} or not address.database:
        raise ConfigError("the head-end state is kept in sqlite:///path or postgresql://user@host/name")
    return address


def _engine(address: sa.URL) -> sa.Engine:
    if address.get_backend_name() == "sqlite":
        try:
            os.close(os.open(address.database or "", os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StorageError(f"the head-end state cannot be opened: {error}", retry=True) from error
        engine = sa.create_engine(address)
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
        return engine
    # What breaks under a connection that is given back is told by the transaction that had it, in words.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    engine = sa.create_engine(
        address,
        isolation_level="SERIALIZABLE",
        pool_pre_ping=True,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        connect_args={"timeout": CONNECT_TIMEOUT_S},
    )
    # Many rows go in one statement: with a journey for each, a campaign of 10,000 held up all others for a long time.
    engine.dialect.use_insertmanyvalues_wo_returning = True
    sa.event.listen(engine, "connect", _limit)
    sa.event.listen(engine, "handle_error", _notice_loss)
    return engine


def _prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    raw: Any = connection
    raw.isolation_level = None  # sqlite3 begins nothing by itself: `_begin` does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # what was confirmed holds after a power cut
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _limit(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_LIMIT_MS}")
    cursor.execute(f"SET lock_timeout = {LOCK_LIMIT_MS}")
    cursor.close()
    connection.commit()


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("metergate_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _notice_loss(context: sa.engine.ExceptionContext) -> None:
    if _lost(context.original_exception):
        context.is_disconnect = True
