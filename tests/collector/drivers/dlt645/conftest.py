"""A fresh line of simulated meters for each test."""

import pytest

from tests.collector.drivers.dlt645.simulated_line import Site


@pytest.fixture
def site() -> Site:
    """Return an empty line."""
    return Site()
