"""Meters that lie about lengths, flood and never end: a named error each, and memory that stays within bounds."""

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from zoneinfo import ZoneInfo

import pytest
import uvloop

from collector.bus import Bus, BusLimits, Lane
from collector.dlms_profile import load_dlms_profile
from collector.dlt645_profile import load_dlt645_profile
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_access import access_of
from collector.drivers.dlms_carrier import DlmsLine
from collector.drivers.dlms_load_profile import DlmsProfileReader
from collector.drivers.dlt645_talk import Dlt645Talk
from collector.exchange import Transact
from collector.links.stream import TcpStreamLink
from metering.errors import FrameError, MeterError
from metering.model import SECOND
from simulators.dlms_security import GMAC_CLIENT
from simulators.dlms_security import test_keys as keys_of_tests
from tests.faults.hostile_meters import ADDRESS, DLMS, DLT645, FLOODS, HDLC_ALONE, NOW, OPEN, hostile_meters

pytestmark = pytest.mark.fault

REPLY = 65_536  # bytes that a reply may have, unless its profile says more
# What really came is there several times for a moment: as it came, put together, closed, opened.
COPIES = 5
WAIT_S = 60.0
TITLE = b"MGC\0\0\0\0\1"
REALLY_LONG = {
    "many arrays in arrays",
    "a value of 60000 bytes",
    "segments for a million bytes",
    "blocks for ever",  # as many bytes as one reply may have do come before it is left
}
CASES = [(transport, name) for transport in ("wrapper", "hdlc") for name in DLMS] + [("hdlc", n) for n in HDLC_ALONE]


class Counter:
    """An invocation counter in memory, above all that was used before."""

    known = True
    value = 0

    def next(self) -> int:
        Counter.value += 1
        return Counter.value

    def skip(self) -> bool:
        return False

    def raise_to(self, expected: int) -> None:
        Counter.value = max(Counter.value, expected)


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    with hostile_meters() as found:
        yield found


def peak_of(port: int, work: Callable[[Transact], Awaitable[object]]) -> tuple[int, MeterError]:
    return uvloop.run(_peak_of(port, work))  # the gateway's own loop: another one has other buffers


async def _peak_of(port: int, work: Callable[[Transact], Awaitable[object]]) -> tuple[int, MeterError]:
    """Return how many bytes more than before were allocated at once while the work failed, and its error."""
    bus = Bus(TcpStreamLink("127.0.0.1", port), BusLimits(retries=0))
    error: MeterError | None = None
    tracemalloc.start()
    try:
        for _ in range(2):  # the first time, what is made once and kept (tables, connections) is counted, too
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                async with asyncio.timeout(WAIT_S):
                    await bus.submit(Lane.COMMAND, "m1", work, whole=True)
            except MeterError as caught:
                error = caught.with_traceback(None)
            peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        await bus.close()
    assert error is not None, "it was believed"
    return peak, error


def dlms(transport: str, security: str = "none") -> Callable[[Transact], Awaitable[None]]:
    """Return the work of reading a load profile."""
    profile = load_dlms_profile("dlms_generic")
    said: dict[str, object] = {"client": OPEN}
    if security != "none":
        said = {"client": GMAC_CLIENT, "authentication": "high-gmac", "security": security, "client_title": TITLE}
    if transport == "hdlc":
        said["physical"] = 17
    driver = DlmsDriver(
        "m1",
        profile,
        DlmsLine("hdlc" if transport == "hdlc" else "wrapper"),
        access_of(profile, **said),
        keys_of_tests(),
        Counter(),
        zone=ZoneInfo("UTC"),
    )
    reader = DlmsProfileReader(driver, next(spec for spec in profile.profile if spec.role == "load"))

    async def work(transact: Transact) -> None:
        async with driver.talk(transact) as talk:
            await reader.read_profile(talk, NOW - 86_400 * SECOND, NOW, into=[])

    return work


async def dlt645(transact: Transact) -> None:
    talk = Dlt645Talk(transact, load_dlt645_profile("dlt645_2007_3p"), ADDRESS, "m1")
    await talk.read("00010000", 4)


@pytest.mark.parametrize("security", ["none", "authenticated-encrypted"])
@pytest.mark.parametrize(("transport", "name"), CASES)
def test_a_dlms_meter_that_lies_makes_nothing_large(ports: dict[str, int], transport: str, name: str, security: str):
    peak, error = peak_of(ports[f"{transport} {name}"], dlms(transport, security))
    assert isinstance(error, FrameError)
    assert peak <= (COPIES * REPLY if name in REALLY_LONG else REPLY), str(error)


@pytest.mark.parametrize("name", DLT645)
def test_a_dlt645_meter_that_lies_makes_nothing_large(ports: dict[str, int], name: str):
    peak, error = peak_of(ports[f"dlt645 {name}"], dlt645)
    assert isinstance(error, FrameError)
    assert peak <= REPLY, str(error)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_left_after_a_reply(ports: dict[str, int], name: str):
    transport = name.split(maxsplit=1)[0]
    peak, error = peak_of(ports[f"flood {name}"], dlt645 if transport == "dlt645" else dlms(transport))
    assert isinstance(error, FrameError)
    assert peak <= COPIES * REPLY, str(error)
