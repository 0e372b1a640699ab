"""From a command's last approval to its read-back on an idle meter over TCP: DLMS, class 70, ciphered, real guard."""

import logging
import statistics
import tempfile
from pathlib import Path

import structlog
import uvloop

from bench.row import Row
from bench.supply_site import Site, Tables
from metering.supply import Action
from simulators.dlms_meter import DlmsMeter, DlmsSettings
from simulators.dlms_security import GMAC_CLIENT, test_keys
from simulators.dlms_tcp import DlmsTcpServer
from simulators.meter import Meter, MeterSettings
from trust.document import Binding

BAR_S = 3.0
ROUNDS = 10  # of a disconnect and a reconnect each
DIRECT = 4  # control mode: connected from afar


def run() -> list[Row]:
    """Measure for some seconds."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as folder:
        times = uvloop.run(_measure(Path(folder)))
    worst = max(times)
    return [
        Row(
            "supply-tcp",
            worst,
            "s from last approval to verified",
            "budget",
            BAR_S,
            worst / BAR_S,
            "ratio <= 1",
            worst <= BAR_S,
            f"the worst of {len(times)} commands, median {statistics.median(times):.3f} s; signatures, guard, record "
            "on disk, association with GMAC, registers before and after; the simulated relay moves at once",
        )
    ]


async def _measure(folder: Path) -> list[float]:
    meter = DlmsMeter(Meter(MeterSettings(serial="70000123")), DlmsSettings(control_mode=DIRECT))
    server = DlmsTcpServer({1: meter}, framing="wrapper")
    _, port = await server.start()
    known = test_keys()
    tables: Tables = {
        "bus": [{"id": "b1", "kind": "wrapper", "host": "127.0.0.1", "port": port}],
        "meter": [
            {
                "id": "m1",
                "bus": "b1",
                "profile": "dlms_generic",
                "point": "MP-1",
                "region": "xx/01",
                "dlms": {
                    "client": GMAC_CLIENT,
                    "authentication": "high-gmac",
                    "security": "authenticated-encrypted",
                    "read_counter": True,
                },
            }
        ],
    }
    binding = Binding("MP-1", "m1", "70000123", f"title:{meter.title.hex()}", 0)
    secrets = {"m1": {"encryption": known.encryption, "authentication": known.authentication}}
    times = []
    try:
        async with Site(folder, tables, [binding], secrets) as site:
            for _ in range(ROUNDS):
                for action in (Action.DISCONNECT, Action.RECONNECT):
                    begun, verified = await site.order("m1", action)
                    times.append(verified - begun)
    finally:
        await server.close()
    return times
