from pathlib import Path

import pytest

from metering.errors import ConfigError
from metering.secret import resolve_secret


def test_a_secret_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METER_PASSWORD", "rain")
    (tmp_path / "secret").write_text("fall\n")
    assert resolve_secret("env:METER_PASSWORD") == "rain"
    assert resolve_secret(f"file:{tmp_path}/secret") == "fall"


@pytest.mark.parametrize("reference", ["hunter2", "env:", "file:", "vault:x", ""])
def test_a_secret_written_in_the_file_is_refused_and_not_repeated(reference: str) -> None:
    with pytest.raises(ConfigError) as told:
        resolve_secret(reference)
    assert "hunter2" not in str(told.value)


def test_a_missing_variable_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="METERGATE_NOT_SET"):
        resolve_secret("env:METERGATE_NOT_SET")
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve_secret(f"file:{tmp_path}/none")
