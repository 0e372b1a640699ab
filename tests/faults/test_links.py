"""Links that lose packets, stand half open, carry 2 kB/s, or come and go: all that was acknowledged is billed, once."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from simulators.broker import free_port
from tests.faults.lossy import LossyLink, can_lose
from tests.faults.place import Place
from tests.faults.proxy import Proxy
from tests.faults.site_process import until

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(300)]
SEED = 11
BAD_S = 4.0  # how long a link is bad; then it is good, and all must come
LONG_S = 120.0
FLAP_S = 5.0
FLAPS = 20
SLOW = 2000.0  # bytes a second
DELAY_S = 0.2


@asynccontextmanager
async def losing(folder: Path, loss: float) -> AsyncIterator[tuple[Place, LossyLink | Proxy, dict[str, object]]]:
    """Yield a place, its bad link and what a gateway needs to use it: by TUN, or by a proxy that resets at chance."""
    if can_lose():
        async with LossyLink(loss, SEED) as link:
            port = free_port()
            async with Place(folder, broker=f"listener {port} {link.near}") as place:
                yield place, link, {"host": link.far, "port": port}
        return
    chance = random.Random(SEED)
    async with Place(folder) as place, Proxy(place.broker.port) as proxy:
        proxy.delay_s = DELAY_S * loss
        proxy.spoil = lambda: chance.random() < loss / 4
        yield place, proxy, {"port": proxy.port}


def heal(link: LossyLink | Proxy) -> None:
    """Let everything through from now on."""
    if isinstance(link, LossyLink):
        assert link.lost > 0
        link.loss = 0.0
    else:
        link.delay_s, link.spoil = 0.0, lambda: False


@pytest.mark.parametrize(
    ("loss", "seconds"),
    [(0.1, BAD_S), (0.5, BAD_S), pytest.param(0.5, LONG_S, marks=pytest.mark.soak)],
    ids=["10 percent", "50 percent", "50 percent for long"],
)
async def test_a_link_that_loses_packets_delays_and_loses_nothing(tmp_path: Path, loss: float, seconds: float):
    async with losing(tmp_path, loss) as (place, link, way):
        await place.start_headend()
        await place.start_gateway(**way)
        await asyncio.sleep(seconds)
        heal(link)
        await place.settled()
        await place.check()


async def test_a_half_open_connection_is_given_up_and_what_it_swallowed_is_sent_again(tmp_path: Path):
    async with Place(tmp_path) as place, Proxy(place.broker.port) as proxy:
        await place.start_headend()
        await place.start_gateway(port=proxy.port, keepalive_s=5)
        await place.receipted()
        proxy.stall()
        await place.appended(100)
        seen, accepted = place.receipts[-1].contiguous, proxy.accepted
        await place.appended(300)
        assert place.receipts[-1].contiguous <= seen + 100  # what was under way; nothing came after it

        async def comes_again() -> bool:
            return proxy.accepted > accepted

        await until(comes_again, "the gateway notices by itself: nobody closes anything")
        proxy.cut()
        proxy.flow()
        await place.settled()
        await place.check()


async def test_two_kilobytes_a_second_bring_a_backlog_home_beside_the_present(tmp_path: Path):
    async with Place(tmp_path) as place, Proxy(place.broker.port) as proxy:
        proxy.rate = SLOW
        await place.start_headend()
        await place.start_gateway(port=proxy.port, batches=100, pause_s=0.0)
        await place.settled()
        assert proxy.passed > SLOW
        await place.check()


@pytest.mark.parametrize("flaps", [1, pytest.param(FLAPS, marks=pytest.mark.soak)])
async def test_a_link_that_flaps_each_five_seconds_loses_and_doubles_nothing(tmp_path: Path, flaps: int):
    async with Place(tmp_path) as place, Proxy(place.broker.port) as proxy:
        await place.start_headend()
        await place.start_gateway(port=proxy.port, pause_s=0.03)
        await place.receipted()
        for _ in range(flaps):
            proxy.down()
            await asyncio.sleep(FLAP_S)
            proxy.flow()
            await asyncio.sleep(FLAP_S)
        assert proxy.broken > 0
        await place.settled()
        await place.check()
