"""What the doctor says where a Modbus line is spoken to in another way than its meters speak."""

from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]
Rewrite = Callable[..., Path]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metergate.doctor_search.ADDRESSES_S", 1.0)


def test_the_speed_at_which_a_line_answers_is_told(command: Command, rewrite: Rewrite) -> None:
    code, out, _ = command("doctor", rewrite(('format = "8E1"', 'format = "8E1"\nbaud = 2400')))
    assert code == 1
    assert "WRONG  meter cellar-1: unit 1 did not answer in time; check the meter's power" in out
    said = "baud = 9600, format = '8E1'"
    assert f"bus cellar: unit 1 answers with {said}, the file says baud = 2400, format = '8E1'; say {said} for" in out


def test_another_framing_than_the_file_says_is_told(command: Command, rewrite: Rewrite) -> None:
    code, out, _ = command("doctor", rewrite(('kind = "tcp"', 'kind = "rtu-over-tcp"')))
    assert code == 1
    assert "bus riser: unit 1 answers with kind = 'tcp', the file says kind = 'rtu-over-tcp'; say kind = 'tcp'" in out
