"""Hosts that stay on this machine, and all others."""

import pytest

from metering.hosts import is_loopback


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1"])
def test_these_stay_on_this_machine(host: str):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.example", "127.0.0.1.example", "127.1"])
def test_all_others_do_not(host: str):
    assert not is_loopback(host)
