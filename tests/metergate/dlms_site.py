"""Simulated DLMS meters behind endpoints, and a site file with one of them, for tests of the doctor."""

import asyncio
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.keystore import KeyStore
from gateway.master_key import make_master
from metergate.parts import log_directory
from metergate.site import load_site
from metering.errors import AuthError
from simulators.dlms_faults import DlmsFault, DlmsFaults, DlmsKind
from simulators.dlms_meter import DlmsMeter, DlmsSettings
from simulators.dlms_security import GMAC_CLIENT, READER
from simulators.dlms_security import test_keys as keys_of_simulators
from simulators.dlms_tcp import DlmsTcpServer, Framing
from simulators.meter import Meter, MeterSettings
from storage.files import lock_directory
from storage.log import Log, LogLimits
from storage.quarantine import Quarantine

Command = Callable[..., tuple[int, str, str]]

SERIAL = "70000123"
OPEN = "client = 16"
LOW = f'client = {READER}, authentication = "low"'
GMAC = f'client = {GMAC_CLIENT}, authentication = "high-gmac", security = "authenticated-encrypted"'
GMAC_ENCRYPTED = f'client = {GMAC_CLIENT}, authentication = "high-gmac", security = "encrypted"'
SECRETS = keys_of_simulators()
WRONG = bytes(16)
LOAD_PROFILE = "1-0:99.1.0*255"


def made(settings: DlmsSettings | None = None, fault: DlmsKind | None = None, offset_s: float = 0.0) -> DlmsMeter:
    faults = DlmsFaults([DlmsFault(fault)] if fault else [])
    return DlmsMeter(Meter(MeterSettings(serial=SERIAL, offset_s=offset_s)), settings, faults=faults)


class Endpoints:
    """Endpoints in a loop of their own: the commands have event loops of their own, too."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._servers: list[DlmsTcpServer] = []

    def serve(self, meter: DlmsMeter, framing: Framing = "wrapper") -> str:
        server = DlmsTcpServer({1: meter}, framing=framing)
        self._servers.append(server)
        host, port = asyncio.run_coroutine_threadsafe(server.start(), self._loop).result(10)
        kind = "wrapper" if framing == "wrapper" else "hdlc-tcp"
        return f'kind = "{kind}"\nhost = "{host}"\nport = {port}'

    def close(self) -> None:
        for server in self._servers:
            asyncio.run_coroutine_threadsafe(server.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class DlmsSite:
    """A site file with one meter `m`, and its key store."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.file = folder / "site.toml"
        self.data = folder / "data"
        self._command = command
        self.master = folder / "master.key"
        self.master.write_text(make_master())

    def write(self, bus: str, dlms: str = OPEN, serial: str = SERIAL) -> None:
        self.file.write_text(
            f"""
[gateway]
id = "gw"
data = "{self.data}"

[keys]
master = "file:{self.master}"

[[bus]]
id = "b"
{bus}

[[meter]]
id = "m"
bus = "b"
profile = "dlms_generic"
point = "MP-1"
region = "town"
serial = "{serial}"
dlms = {{{dlms}}}
"""
        )

    def keys(self, epoch: str = "") -> KeyStore:
        return KeyStore(self.data / "keys", f"file:{self.master}", epoch=epoch)

    def secrets(self) -> dict[str, bytes]:
        return {name: getattr(SECRETS, name) for name in ("encryption", "authentication", "password")}

    def put(self, counter: int | None = None, **secrets: bytes) -> None:
        self.keys().put("m", {**self.secrets(), **secrets}, counter=counter)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold what a running gateway holds."""
        folder = log_directory(self.data)
        folder.mkdir(parents=True)
        lock = lock_directory(folder)
        yield
        os.close(lock)

    def doctor(self) -> str:
        """Return what the doctor says of the bus and the meter; no secret is among it."""
        _, out, err = self._command("doctor", self.file)
        assert err == ""
        for secret in (SECRETS.encryption.hex(), SECRETS.authentication.hex(), "12345678", "87654321"):
            assert secret not in out
        lines = [line for line in out.splitlines() if re.search(r"(bus \w|meter \w|keys): ", line)]
        return "\n".join(lines).replace(str(self.file), "FILE")

    async def gateway_reads(self) -> None:
        file = load_site(self.file)
        log = Log.open(self.data / "log", LogLimits(min_free_bytes=0))
        gateway = Gateway(file, log, Quarantine(self.data / "q"))
        try:
            with pytest.raises(AuthError):
                await gateway.read_now("m")
        finally:
            stop = asyncio.Event()
            stop.set()
            await gateway.run(stop)
            log.close()
