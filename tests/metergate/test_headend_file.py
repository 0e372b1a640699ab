"""The head-end's file: the example is one, and what is wrong in it is told with its line."""

from pathlib import Path

import pytest

from metergate.headend_file import assignments, devices_of, load_headend, profiles_of
from metering.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config" / "headend.toml"


def test_the_example_of_a_headend_is_one():
    file = load_headend(EXAMPLE)
    assert assignments(file.meter) == {"flat-01": frozenset({"elm-7"})}
    assert [device.gateway for device in devices_of(file, profiles_of(file))] == ["elm-7"]


def test_a_meter_of_a_gateway_that_is_not_there_is_told(tmp_path: Path):
    path = tmp_path / "headend.toml"
    path.write_text(EXAMPLE.read_text().replace('gateway = "elm-7" ', 'gateway = "elm-8" '))
    with pytest.raises(ConfigError, match=r"headend\.toml:\d+: .*there is no gateway 'elm-8' in this file"):
        load_headend(path)
