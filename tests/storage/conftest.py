"""Stores for the contract that all of them keep, and blocks to put into them."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.influxdb_server import InfluxServer
from metering.ports import ReadingsStore
from storage.embedded import EmbeddedStore
from storage.influxdb import InfluxSettings, InfluxStore

MakeStore = Callable[[], ReadingsStore]


def embedded(directory: Path, _request: pytest.FixtureRequest) -> MakeStore:
    numbers = itertools.count()
    return lambda: EmbeddedStore(directory / f"readings{next(numbers)}.db")


def influxdb(_directory: Path, request: pytest.FixtureRequest) -> MakeStore:
    server: InfluxServer = request.getfixturevalue("influx_server")
    return lambda: InfluxStore(InfluxSettings(server.url, server.token, f"{server.fresh_database()}/autogen"))


# Another store joins the contract by its line here: name -> what gives a maker of empty stores.
FACTORIES: dict[str, Callable[[Path, pytest.FixtureRequest], MakeStore]] = {"embedded": embedded, "influxdb": influxdb}


REAL = {"influxdb"}  # those that need a real server


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.real] * (name in REAL)) for name in FACTORIES])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """Return what makes an empty store; all of them are closed at the end."""
    make = FACTORIES[request.param](tmp_path, request)
    with ExitStack() as stack:

        def made() -> ReadingsStore:
            store = make()
            stack.callback(store.close)
            return store

        yield made


@pytest.fixture
def store(make_store: MakeStore) -> ReadingsStore:
    return make_store()
