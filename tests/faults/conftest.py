"""Sites and simulated worlds that end with their test."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from metergate.world import World
from simulators.fleet_file import Fleet
from tests.faults.site_process import Site
from tests.faults.small_disk import mounted


@pytest.fixture
async def open_world(tmp_path: Path) -> AsyncIterator[Callable[[dict[str, Any]], Awaitable[World]]]:
    """Return what makes a simulated world of a fleet's tables, in this process."""
    async with AsyncExitStack() as stack:

        async def start(fleet: dict[str, Any]) -> World:
            return await stack.enter_async_context(World(Fleet.model_validate(fleet), tmp_path))

        yield start


@pytest.fixture
async def make_site(tmp_path: Path) -> AsyncIterator[Callable[..., Site]]:
    """Return what makes a site of tables; it is not started."""
    made: list[Site] = []

    def make(tables: Mapping[str, Any], data: Path | None = None, **log: str) -> Site:
        made.append(Site(tmp_path, data or tmp_path / "data", tables, log={"commit_every": "200ms", **log}))
        return made[-1]

    yield make
    for site in made:
        await site.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of its own, that a test may fill up."""
    with mounted(tmp_path / "disk") as place:
        yield place
