"""`metergate bench` knows its bars; what they measure is theirs."""

import importlib

import pytest

from metergate.commands.bench import BARS, run_bench
from metering.errors import ConfigError


@pytest.mark.parametrize("name", BARS)
def test_each_bar_can_be_loaded_and_run(name: str) -> None:
    module, function = BARS[name]
    assert callable(getattr(importlib.import_module(f"bench.{module}"), function))


def test_an_unknown_bar_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'nothing'; known are rtu-bus, .*whole-way"):
        run_bench(["nothing"], None)
