"""One run of `metergate demo` in a process of its own, for the tests of the demo."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from simulators.broker import free_port

WAIT_S = 60.0
LOOK_S = 0.1
SUMMARY = re.compile(r"^readings=(\d+) meters=(\d+) gaps=(\d+)$", re.MULTILINE)


class Demo:
    """One run of the demo: its process, its children and what it prints."""

    def __init__(self, data: Path, said: Path, *options: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.said = said
        command = [sys.executable, "-m", "metergate", "demo", "--data", str(data), "--api", f"127.0.0.1:{self.port}"]
        with said.open("wb") as out:
            self.process = subprocess.Popen([*command, *options], stdout=out, stderr=out)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)

    def text(self) -> str:
        return self.said.read_text()

    def ready(self) -> "Demo":
        """Return when the API answers."""
        wait_for(lambda: self.process.poll() is not None or self.answers(), "the demo's API")
        assert self.process.poll() is None, self.text()
        return self

    def answers(self) -> bool:
        try:
            return self._client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def token(self, scope: str) -> str:
        found = re.search(rf"^\s*{re.escape(scope)}\s+(mg_\S+)$", self.text(), re.MULTILINE)
        assert found, self.text()
        return found[1]

    def ask(self, token: str, path: str, **parameters: str | int) -> httpx.Response:
        return self._client.get(path, params=parameters, headers={"Authorization": f"Bearer {token}"})

    def end(self) -> int:
        """Wait for its end; no process of it is left and nothing broke."""
        code = self.process.wait(WAIT_S)
        assert "Traceback" not in self.text(), self.text()
        return code

    def summary(self) -> tuple[int, ...]:
        found = SUMMARY.search(self.text())
        assert found, self.text()
        return tuple(map(int, found.groups()))


def wait_for(true: Callable[[], Any], why: str) -> Any:  # noqa: ANN401 - whatever the question answers
    limit = time.monotonic() + WAIT_S
    while not (found := true()):
        assert time.monotonic() < limit, f"never came: {why}"
        time.sleep(LOOK_S)
    return found


def gone(family: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(family, timeout=WAIT_S)[1]
