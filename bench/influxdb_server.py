"""A real InfluxDB 1.6 of Debian's with haproxy before it, in a directory of its own: for tests and benchmarks.

Not for production: one user, loopback only, free ports. A missing binary is an error that names what to install.
"""

import http.client
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
from base64 import b64encode
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CONFIG = Path(__file__).parent / "influxdb"
USER = "admin"
PASSWORD = "only-for-tests"  # the server listens on loopback, for the time of one run
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02


class InfluxServer:
    """`influxd` and `haproxy` under `directory`: `url` for clients, `http_port` for influxd itself."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.http_port, rpc_port, self.proxy_port = _free_ports(3)
        ports = {
            "HTTP_PORT": str(self.http_port),
            "RPC_PORT": str(rpc_port),
            "PROXY_PORT": str(self.proxy_port),
            "DATA_DIR": str(directory),
        }
        for name in ("influxdb.conf", "haproxy.cfg"):
            text = (CONFIG / name).read_text()
            for word, value in ports.items():
                text = text.replace(word, value)
            (directory / name).write_text(text)
        self._databases = 0
        self._influxd: subprocess.Popen[bytes] | None = None
        self._haproxy: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address that an influxdb-client uses."""
        return f"http://127.0.0.1:{self.proxy_port}"

    @property
    def token(self) -> str:
        """Return the token of the one user, as 1.8 takes it: `user:password`."""
        return f"{USER}:{PASSWORD}"

    def start(self) -> None:
        """Start both and make the user; return when queries are answered."""
        self.start_influxd()
        self._haproxy = _start("haproxy", ["-db", "-f", str(self.directory / "haproxy.cfg")], self.directory)
        _wait_for_port(self.proxy_port)
        self.query(f"CREATE USER \"{USER}\" WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES")

    def start_influxd(self) -> None:
        """Start influxd alone, for the first time or after `kill`; return when it answers."""
        self._influxd = _start("influxd", ["-config", str(self.directory / "influxdb.conf")], self.directory)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._influxd.poll() is not None:
                raise RuntimeError(f"influxd ended at once; its last words: {_tail(self.directory / 'influxd.log')}")
            try:
                if self.request("GET", "/ping")[0] == http.client.NO_CONTENT:
                    return
            except OSError:
                time.sleep(POLL_S)
        raise RuntimeError(f"influxd did not answer within {READY_TIMEOUT_S:.0f} s")

    def kill(self) -> None:
        """End influxd with SIGKILL, as a power failure would."""
        if self._influxd is not None:
            self._influxd.kill()
            self._influxd.wait()
            self._influxd = None

    def stop(self) -> None:
        """End both."""
        for process in (self._haproxy, self._influxd):
            if process is not None:
                process.terminate()
                try:
                    process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._haproxy = self._influxd = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body of a request to influxd itself, past haproxy."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=READY_TIMEOUT_S)
        try:
            credentials = b64encode(self.token.encode()).decode()
            connection.request(method, path, body, {"Authorization": f"Basic {credentials}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def query(self, statement: str, database: str = "") -> list[dict[str, Any]]:
        """Return the series of one InfluxQL statement, times in microseconds."""
        parameters = urllib.parse.urlencode({"q": statement, "db": database, "epoch": "u"})
        status, body = self.request("POST", f"/query?{parameters}")
        answer = json.loads(body)
        results = answer.get("results", [{}])
        error = answer.get("error") or results[0].get("error")
        if status != http.client.OK or error:
            raise RuntimeError(f"{statement}: {error or status}")
        series: list[dict[str, Any]] = results[0].get("series", [])
        return series

    def create_database(self, name: str) -> None:
        """Make a database with the retention policy `autogen` (for ever); its bucket is `name/autogen`."""
        self.query(f'CREATE DATABASE "{name}"')

    def fresh_database(self) -> str:
        """Make a database with a name of its own and return the name."""
        self._databases += 1
        name = f"meters{self._databases}"
        self.create_database(name)
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database with all that is in it."""
        self.query(f'DROP DATABASE "{name}"')


def _start(program: str, arguments: list[str], directory: Path) -> subprocess.Popen[bytes]:
    place = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")
    if place is None:
        package = "influxdb" if program == "influxd" else program
        raise FileNotFoundError(f"{program} is not installed: run `apt-get install {package}` as root")
    with (directory / f"{program}.log").open("ab") as log:
        return subprocess.Popen([place, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            time.sleep(POLL_S)
        else:
            return
    raise RuntimeError(f"nothing listens on port {port} after {READY_TIMEOUT_S:.0f} s")


def _tail(path: Path) -> str:
    return " | ".join(path.read_text(errors="replace").splitlines()[-3:])
