"""A real InfluxDB for all tests that ask for one, started once. A missing binary is a failure, never a skip."""

from collections.abc import Iterator

import pytest

from bench.influxdb_server import InfluxServer


@pytest.fixture(scope="session")
def influx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    with InfluxServer(tmp_path_factory.mktemp("influxdb")) as server:
        yield server
