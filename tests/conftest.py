"""Real servers for all tests that ask for one: started once, a broker each time. A missing binary is a failure."""

from collections.abc import AsyncIterator, Iterator

import pytest

from bench.influxdb_server import InfluxServer
from bench.nats_server import NatsCluster
from bench.postgres_server import PostgresServer
from simulators.broker import MosquittoBroker, find_mosquitto


@pytest.fixture(scope="session")
def influx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    with InfluxServer(tmp_path_factory.mktemp("influxdb")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def nats_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    cluster = NatsCluster(tmp_path_factory.mktemp("nats"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
async def broker() -> AsyncIterator[MosquittoBroker]:
    assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
    made = MosquittoBroker()
    await made.start()
    yield made
    await made.stop()
