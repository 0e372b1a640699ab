"""A real PostgreSQL of Debian's for tests: on a free loopback port, in a folder of its own, never run by root."""

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import sqlalchemy as sa

START_S = 60
_numbers = itertools.count()


class PostgresServer:
    """`start`, `stop` and `start` again as a test likes; `remove` at the end. A missing server is an error."""

    def __init__(self) -> None:
        found = shutil.which("pg_ctl") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")), default="")
        if not found:
            raise RuntimeError("there is no PostgreSQL: run scripts/servers")
        self._bin = Path(found).resolve().parent
        self._user = "postgres" if os.geteuid() == 0 else None
        self._home = Path(tempfile.mkdtemp(prefix="metergate-pg-"))
        if self._user is not None:
            os.chown(self._home, pwd.getpwnam(self._user).pw_uid, -1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._run("initdb", "-U", "metergate", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._home}"
        self._run("pg_ctl", "-w", "-t", str(START_S), "-l", str(self._home / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` breaks the connections, `immediate` is a crash."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def remove(self) -> None:
        """End it and remove its folder."""
        if (self._home / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._home)

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://metergate@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """Make an empty database and return its address."""
        name = f"state{next(_numbers)}"
        engine = sa.create_engine(
            self.url("postgres").replace("postgresql:", "postgresql+pg8000:"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return self.url(name)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, "-D", self._home / "data", *arguments],
            user=self._user,
            cwd=self._home,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=2 * START_S,
        )
