"""The street of meters at which commands are tried."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway.supply.edge import Street, street


@pytest.fixture
async def place() -> AsyncIterator[Street]:
    async with street() as opened:
        yield opened
