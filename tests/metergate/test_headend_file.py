"""The head-end's file: the example is one, and what is wrong in it is told with its line."""

from pathlib import Path

import pytest

from metergate.commands import token
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


def test_tokens_of_a_headend_are_made_by_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "headend.toml"
    path.write_text(EXAMPLE.read_text().replace("/var/lib/metergate-headend", str(tmp_path / "data")))
    token.create(path, "billing", ["readings:read"], [""], 90)
    token.show(path)
    assert "billing  readings:read  everywhere" in capsys.readouterr().out
