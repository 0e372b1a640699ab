"""Meters that lie and flood, in a process of their own, so that what is allocated is measured without them."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from collector.dlt645_profile import load_dlt645_profile
from collector.protocols.dlms.hdlc import Frame, ServerAddress, build_frame, client_address
from collector.protocols.dlms.wrapper import wrap
from collector.protocols.dlt645.frame import build_frame as build_dlt645
from metering.model import SECOND
from simulators.dlms_faults import DlmsFault, DlmsFaults
from simulators.dlms_meter import DlmsMeter, DlmsSettings
from simulators.dlms_objects import Role
from simulators.dlms_security import AccessSettings, Client, usual_clients
from simulators.dlms_tcp import DlmsTcpServer
from simulators.dlt645_faults import Dlt645Fault, Dlt645Faults
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.dlt645_tcp import Dlt645TcpServer
from simulators.meter import Meter, MeterSettings

STARTED_S = 60.0
NOW = 1_795_000_000 * SECOND
OPEN = 48  # a client that proves nothing
ADDRESS = "000000004321"
BIG = bytes(60_000)

DLMS: dict[str, DlmsFault] = {
    "array of 2^31": DlmsFault("lying_length"),
    "array of 65535": DlmsFault("lying_length", count=65_535),
    "arrays in arrays": DlmsFault("nested"),
    "many arrays in arrays": DlmsFault("nested", count=25_000),
    "blocks for ever": DlmsFault("endless"),
    "a value of 60000 bytes": DlmsFault("oversized"),
}
HDLC_ALONE: dict[str, DlmsFault] = {"segments for a million bytes": DlmsFault("oversized", count=1_000_000)}
DLT645: dict[str, Dlt645Fault] = {
    "a longer frame than there is": Dlt645Fault("lying_length", count=200),
    "follow-ups for ever": Dlt645Fault("endless"),
}
# What comes, again and again, as fast as it is taken.
FLOODS: dict[str, bytes] = {
    "wrapper zeros": bytes(8192),
    "wrapper others": wrap(2, 99, BIG) * 2,
    "wrapper ours": wrap(1, OPEN, b"\x0f\0\0\0\1\0\x09\x82\xea\x00" + BIG[:59_904]) * 8,
    "wrapper never whole": wrap(1, OPEN, b"\x61" + bytes(65_000)),
    "hdlc zeros": bytes(8192),
    "hdlc flags": b"\x7e" * 8192,
    "hdlc others": build_frame(Frame(client_address(17), ServerAddress(1, 17, 2).to_bytes(), 0x73, bytes(100))) * 80,
    "hdlc ours": build_frame(Frame(client_address(OPEN), ServerAddress(1, 17, 2).to_bytes(), 0x63, bytes(100))) * 80,
    "dlt645 zeros": bytes(8192),
    "dlt645 starts": b"\x68" * 8192,
    "dlt645 others": build_dlt645("000000009999", 0x91, bytes(200)) * 40,
}


@contextlib.contextmanager
def hostile_meters() -> Iterator[dict[str, int]]:
    """Run all of them; give their ports by transport and name."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_run, args=(theirs,), daemon=True)
    child.start()
    try:
        assert ours.poll(STARTED_S), "the hostile meters did not start"
        yield ours.recv()
    finally:
        child.terminate()
        child.join()
        child.close()


def _run(parent: Connection) -> None:
    asyncio.run(_serve(parent))


async def _serve(parent: Connection) -> None:
    ports = {}
    servers: list[Any] = []
    for framing, faults in (("wrapper", DLMS), ("hdlc", DLMS | HDLC_ALONE)):
        for name, fault in faults.items():
            server = DlmsTcpServer({1: _dlms(fault)}, framing=framing)
            ports[f"{framing} {name}"] = (await server.start())[1]
            servers.append(server)
    for name, trouble in DLT645.items():
        line = Dlt645TcpServer({ADDRESS: _dlt645(trouble)})
        ports[f"dlt645 {name}"] = (await line.start())[1]
        servers.append(line)
    for name, chunk in FLOODS.items():
        flood = await asyncio.start_server(_flooding(chunk), "127.0.0.1", 0)
        ports[f"flood {name}"] = flood.sockets[0].getsockname()[1]
        servers.append(flood)
    parent.send(ports)
    await asyncio.get_running_loop().create_future()


def _dlms(fault: DlmsFault) -> DlmsMeter:
    access = AccessSettings(clients=(*usual_clients(), Client(OPEN, role=Role.READER)))
    meter = DlmsMeter(Meter(MeterSettings(seed=5)), DlmsSettings(history=False, access=access), now=lambda: NOW)
    meter.faults = DlmsFaults([fault])
    return meter


def _dlt645(fault: Dlt645Fault) -> Dlt645Meter:
    profile = load_dlt645_profile("dlt645_2007_3p")
    faults = Dlt645Faults([fault])
    return Dlt645Meter(Meter(MeterSettings(seed=5)), profile, Dlt645Made(ADDRESS), faults=faults, clock=lambda: NOW)


def _flooding(chunk: bytes) -> Any:  # noqa: ANN401 - what asyncio wants
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
            while True:
                writer.write(chunk)
                await writer.drain()

    return flood
