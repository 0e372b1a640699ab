"""A real InfluxDB for the tests, started once; each test has a database of its own. A missing binary is a failure."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.influxdb_server import InfluxServer
from storage.influxdb import InfluxSettings, InfluxStore

_numbers = itertools.count()


@pytest.fixture(scope="session")
def influx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    with InfluxServer(tmp_path_factory.mktemp("influxdb")) as server:
        yield server


@pytest.fixture
def influx_settings(influx_server: InfluxServer) -> Iterator[InfluxSettings]:
    name = f"meters{next(_numbers)}"
    influx_server.create_database(name)
    yield InfluxSettings(influx_server.url, influx_server.token, f"{name}/autogen", timeout_s=10.0)
    influx_server.drop_database(name)


@pytest.fixture
def influx_store(influx_settings: InfluxSettings) -> Iterator[InfluxStore]:
    store = InfluxStore(influx_settings)
    yield store
    store.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[InfluxServer]:
    """A server that the test may kill."""
    with InfluxServer(tmp_path / "influxdb") as server:
        server.create_database("meters")
        yield server
