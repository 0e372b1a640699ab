"""2,880 rows by range over TCP, from the wire to blocks, beside dlms-cosem's own client on the same simulated meter.

Thirty days of quarter hours (clock, status, four registers) come in blocks of 1,024-byte APDUs. The meter is a process
of its own; what counts is the CPU time of the client's process from the association to its release, in one run.
"""

import asyncio
import gc
import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple
from zoneinfo import ZoneInfo

import uvloop

from bench.peers_run import ask_peers
from bench.row import Row
from collector.bus import Bus, Lane
from collector.dlms_profile import LARGEST_REPLY, load_dlms_profile
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_access import access_of
from collector.drivers.dlms_carrier import DlmsLine
from collector.drivers.dlms_load_profile import DlmsProfileReader
from collector.exchange import Transact
from collector.links.stream import TcpStreamLink
from metering.model import SECOND, Block
from simulators.dlms_meter import DlmsMeter, DlmsSettings, ProfileSettings
from simulators.dlms_objects import Role
from simulators.dlms_profiles import ALWAYS
from simulators.dlms_security import MANAGEMENT, AccessSettings, Client, test_keys, usual_clients
from simulators.dlms_tcp import DlmsTcpServer
from simulators.meter import Meter, MeterSettings

DAYS = 30
PERIOD = 900 * SECOND
ROWS = DAYS * 96
NOW = 1_795_000_000 * SECOND  # 2026-11-18T11:06:40Z
END = NOW // PERIOD * PERIOD
BEGIN = END - ROWS * PERIOD  # the row of this time is not asked for
MAX_PDU = 1024
OPEN = 48  # a client that may read all and proves nothing
TITLE = b"MGC\x00\x00\x00\x00\x01"
ROUNDS = 9
BAR = 0.2  # of the CPU time of dlms-cosem
STARTED_S = 60.0


class _Found(NamedTuple):
    """CPU seconds of the best read, and what stands for all its values."""

    cpu_s: float
    digest: str


class Counter:
    """An invocation counter in memory that goes on from one association to the next."""

    known = True

    def __init__(self) -> None:
        self._value = 0

    def next(self) -> int:
        """Return the next value."""
        self._value += 1
        return self._value

    def skip(self) -> bool:
        """Tell that a distance is not enough: it does not need one."""
        return False

    def raise_to(self, expected: int) -> None:
        """Go on from `expected` at least."""
        self._value = max(self._value, expected - 1)


def run() -> list[Row]:
    """Measure without security, and authenticated and encrypted after HLS-GMAC."""
    with _meter() as port:
        return [_row(port, "none"), _row(port, "authenticated-encrypted")]


def _row(port: int, security: str) -> Row:
    ours = uvloop.run(_read(port, security))
    case = {
        "port": port,
        "secured": security != "none",
        "client": OPEN if security == "none" else MANAGEMENT,
        "title": TITLE.hex(),
        "encryption": test_keys().encryption.hex(),
        "authentication": test_keys().authentication.hex(),
        "counter": 1_000_000,
        "max_pdu": MAX_PDU,
        "begin": BEGIN // SECOND + 1,
        "end": END // SECOND,
        "rounds": ROUNDS,
    }
    peer = ask_peers("dlms_day_range.py", json.dumps(case))
    if peer["digest"] != ours.digest:
        raise RuntimeError("dlms-cosem and ours did not read the same values")
    ratio = ours.cpu_s / peer["cpu_s"]
    return Row(
        name="dlms-day-range" if security == "none" else "dlms-day-range-glo",
        ours=ours.cpu_s * 1000,
        unit="ms of CPU",
        against="dlms-cosem",
        other=peer["cpu_s"] * 1000,
        ratio=ratio,
        bar=f"ratio <= {BAR}",
        holds=ratio <= BAR,
        note=f"{ROWS / ours.cpu_s:.3g} rows/s of a core, from the association to the blocks; the same values by both",
    )


async def _read(port: int, security: str) -> _Found:
    bus = Bus(TcpStreamLink("127.0.0.1", port))
    counter = Counter()
    spent: list[float] = []
    digest = ""
    gc.collect()
    gc.freeze()  # as the gateway does
    # Columns and scalers are asked for in the first round and known from then on; dlms-cosem is told its columns.
    driver = _driver(security, counter)
    reader = DlmsProfileReader(driver, next(spec for spec in driver.profile.profile if spec.role == "load"))
    for _ in range(ROUNDS):
        begun = time.process_time()
        blocks = await _blocks(bus, driver, reader)
        spent.append(time.process_time() - begun)
        rows = [(block.measured_at // SECOND, list(block.values)) for block in blocks]
        if len(rows) != ROWS:
            raise RuntimeError(f"{len(rows)} rows came out of {ROWS}")
        digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    await bus.close()
    return _Found(min(spent), digest)


async def _blocks(bus: Bus, driver: DlmsDriver, reader: DlmsProfileReader) -> list[Block]:
    blocks: list[Block] = []

    async def work(transact: Transact) -> None:
        async with driver.talk(transact) as talk:
            await reader.read_profile(talk, BEGIN, END, into=blocks)

    await bus.submit(Lane.SCHEDULE, driver.device, work, whole=True)
    return blocks


def _driver(security: str, counter: Counter) -> DlmsDriver:
    # The gateway reads pieces of a day; a month in one reply is more than 64 KiB, which the profile has to allow.
    profile = load_dlms_profile("dlms_generic").model_copy(update={"max_reply": LARGEST_REPLY, "max_pdu": MAX_PDU})
    if security == "none":
        said: dict[str, object] = {"client": OPEN}
    else:
        said = {"client": MANAGEMENT, "authentication": "high-gmac", "security": security, "client_title": TITLE}
    access = access_of(profile, **said)
    return DlmsDriver("m1", profile, DlmsLine("wrapper"), access, test_keys(), counter, zone=ZoneInfo("UTC"))


# --- the meter --------------------------------------------------------------------------------------------------------


@contextmanager
def _meter() -> Iterator[int]:
    """Run the meter in a process of its own; give its port."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_run_meter, args=(theirs,), daemon=True)
    child.start()
    try:
        if not ours.poll(STARTED_S):
            raise RuntimeError("the simulated meter did not start")
        yield ours.recv()
    finally:
        child.terminate()
        child.join()
        child.close()


def _run_meter(parent: Connection) -> None:
    uvloop.run(_serve(parent))


async def _serve(parent: Connection) -> None:
    access = AccessSettings(clients=(*usual_clients(), Client(OPEN, role=Role.READER)))
    settings = DlmsSettings(history=False, profile=ProfileSettings(days=DAYS + 1), access=access)
    meter = DlmsMeter(Meter(MeterSettings(seed=5)), settings, now=lambda: NOW)
    for capture in meter.load_profile.captures(NOW, *ALWAYS):  # rows are computed once, before anybody waits for them
        meter.load_profile.row(capture)
    server = DlmsTcpServer({1: meter})
    _, port = await server.start()
    parent.send(port)
    await asyncio.get_running_loop().create_future()  # until it is terminated
