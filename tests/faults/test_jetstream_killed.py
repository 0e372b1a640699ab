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
    monkeypatch.setattr("gateway.uplink.RECEIPT_WAIT_S", 1.0)
    monkeypatch.setattr("gateway.uplink.BIRTH_S", 1.0)
    async with ClusterPlace(tmp_path, postgres.fresh(), cluster) as made:
        yield made


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
