"""A fleet over a NATS cluster, whose nodes and head-ends are killed: all that was acknowledged is there, once."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bench.nats_server import NatsCluster
from bench.postgres_server import PostgresServer
from tests.faults.cluster_place import ClusterPlace

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(240)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    made = NatsCluster(tmp_path / "nats")
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def place(
    cluster: NatsCluster, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ClusterPlace]:
    monkeypatch.setattr("gateway.uplink_flights.RECEIPT_WAIT_S", 1.0)
    monkeypatch.setattr("gateway.uplink_presence.BIRTH_S", 1.0)
    async with ClusterPlace(tmp_path, postgres.fresh(), cluster) as made:
        yield made


async def test_the_streams_leader_is_killed_and_then_all_three_nodes_at_once(place: ClusterPlace):
    await place.start("a")
    await place.receipted()
    leader = await asyncio.to_thread(place.cluster.leader, "readings")
    leader.kill()
    await place.receipted()  # by the two that are left
    leader.start()
    await asyncio.to_thread(place.cluster.ready)
    place.cluster.kill()
    await asyncio.sleep(1)
    await asyncio.to_thread(place.cluster.start)
    await place.receipted()
    await place.settled()
    place.check()


async def test_one_of_two_head_ends_is_killed_and_the_other_takes_its_partitions(place: ClusterPlace):
    await place.start("a")
    await place.receipted()
    await place.start("b")
    await asyncio.sleep(4)  # until it has its share
    await place.receipted()
    await place.end("a", signal.SIGKILL)
    await place.receipted()  # all by the other
    await place.settled()
    place.check()


async def test_a_head_end_that_slept_over_its_relief_fights_for_its_partitions_and_doubles_nothing(place: ClusterPlace):
    await place.start("a")
    await place.start("b")
    await place.receipted()
    for name in ("a", "b"):
        place.tell(name, signal.SIGSTOP)  # in mid-flow, with messages in its hands
        await place.receipted()  # all by the other, which took what the sleeper had
        place.tell(name, signal.SIGCONT)
        await asyncio.sleep(1)
    await place.receipted()
    await place.settled()
    place.check()
