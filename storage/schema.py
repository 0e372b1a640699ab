"""The embedded store's SQLite file: its tables, how it is opened and checked, and what its errors mean.

Not what is written or read (`embedded`, `embedded_read`). The choice of schema is measured in docs/storage-schema.md.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metering.errors import StorageError

APPLICATION_ID = 0x4D474154  # "MGAT", in the file's header
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 5.0  # how long a call waits for another process's lock before it says so
CHECK_TIMEOUT_S = 2.0  # how long opening may look for damage
WRITER_CACHE_KIB = 8192
READER_CACHE_KIB = 2048
CHECKPOINT_PAGES = 1000  # the WAL goes into the file each 4 MB
WAL_LIMIT_BYTES = 16 * 1024 * 1024  # beyond it the next write empties the WAL before it returns

_TABLES = """
CREATE TABLE layouts (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, definition BLOB NOT NULL);
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    layout INTEGER NOT NULL REFERENCES layouts,
    slack INTEGER NOT NULL DEFAULT 0, -- the furthest that a row's slot lies from its measured_at, in microseconds
    UNIQUE (device, layout)
);
CREATE TABLE blocks (
    series INTEGER NOT NULL,
    measured_at INTEGER NOT NULL,
    content BLOB NOT NULL, -- values and qualities, see packing.py; part of the key, so that each version is a row
    delay INTEGER NOT NULL, -- received_at - measured_at
    lag INTEGER, -- measured_at - slot, NULL without a slot
    revision INTEGER NOT NULL,
    PRIMARY KEY (series, measured_at, content)
) WITHOUT ROWID;
CREATE TABLE events (
    time INTEGER NOT NULL,
    id TEXT NOT NULL,
    device TEXT NOT NULL,
    code TEXT NOT NULL,
    name TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (time, id)
) WITHOUT ROWID;
CREATE INDEX events_of_device ON events (device, time, id);
CREATE TABLE expectations (
    device TEXT NOT NULL,
    since INTEGER NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    interval INTEGER NOT NULL,
    obis TEXT NOT NULL,
    until INTEGER,
    PRIMARY KEY (device, since, kind, source, interval, obis)
) WITHOUT ROWID;
"""

_DAMAGE = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT"}


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into StorageError: damage is for good, everything else (full, busy, I/O) may pass."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if any(name.startswith(damage) for damage in _DAMAGE):
            raise damaged(path, str(error)) from error
        raise StorageError(f"{path}: {error}", retry=True) from error


def damaged(path: Path, reason: str) -> StorageError:
    """Return the error that says what to do about a damaged file."""
    return StorageError(
        f"{path} is damaged ({reason}). The log still has what it holds: call set_aside(path), which renames the file, "
        "open the store anew and let its projection begin at the log's first record. What is older than the log is "
        "only in the renamed file.",
        retry=False,
    )


def connect(path: Path, *, writer: bool) -> sqlite3.Connection:
    """Open a connection whose transactions are begun by hand; several threads may use it, one at a time.

    A writer commits with synchronous=FULL: NORMAL does not sync the WAL at a commit, so a power cut would take back
    commits after which the projection's cursor has moved already, and nobody would write them again.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        if writer:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
        else:
            connection.execute("PRAGMA query_only=ON")
        connection.execute(f"PRAGMA cache_size=-{WRITER_CACHE_KIB if writer else READER_CACHE_KIB}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file, or check those of an old one.

    Raises:
        StorageError: the file is damaged, is not a store, or was made by a newer program.

    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
        script = f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id={APPLICATION_ID};"
        connection.executescript(f"{script} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        return
    if application != APPLICATION_ID:
        raise StorageError(f"{path} is a database of another program", retry=False)
    if version != SCHEMA_VERSION:
        raise StorageError(f"{path} has schema {version}; this program knows {SCHEMA_VERSION}", retry=False)
    check(connection, path)


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Look for damage, for at most CHECK_TIMEOUT_S: a large file is not read to its end. Raises StorageError."""
    timer = threading.Timer(CHECK_TIMEOUT_S, connection.interrupt)
    timer.start()
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_INTERRUPT":
            raise
        return
    finally:
        timer.cancel()
        timer.join()
    if found != "ok" and "interrupted" not in found:
        raise damaged(path, found)


def set_aside(path: Path) -> Path:
    """Rename a damaged store with its WAL, so that a new one can be made. Return the new name of the file.

    Nothing is deleted. The store must be closed.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return aside
