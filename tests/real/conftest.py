"""A database of its own for each test of the InfluxDB store, and a server that a test may kill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.influxdb_server import InfluxServer
from storage.influxdb import InfluxSettings, InfluxStore


@pytest.fixture
def influx_settings(influx_server: InfluxServer) -> Iterator[InfluxSettings]:
    name = influx_server.fresh_database()
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
