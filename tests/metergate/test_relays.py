"""How simulated meters' supplies stand is kept over restarts: dark stays dark, and what never flowed is not read."""

from pathlib import Path

import pytest

from metergate.relays import Relays
from metering import timing
from metering.errors import ConfigError
from metering.model import SECOND
from simulators.dlms_meter import DlmsMeter, DlmsSettings
from simulators.meter import Meter, MeterSettings

HOUR = 3_600 * SECOND


def meter() -> DlmsMeter:
    return DlmsMeter(Meter(MeterSettings(serial="70000123")), DlmsSettings(control_mode=4))


def test_a_dark_meter_is_dark_after_a_restart_and_shows_no_energy_of_that_time(tmp_path: Path):
    now = timing.now()
    first, last = meter(), meter()
    first.switch.operate("remote_disconnect", now - 3 * HOUR)
    first.switch.operate("remote_reconnect", now - 2 * HOUR)
    first.switch.operate("remote_disconnect", now - HOUR)
    first.limiter.normal = 1500
    Relays(tmp_path / "relays.json", {"m": first, "n": meter()}).keep()
    Relays(tmp_path / "relays.json", {"m": last}).load()
    assert (last.switch.state, last.meter.supply_on, last.limiter.normal) == (0, False, 1500)
    assert last.meter.values(now) == first.meter.values(now)


def test_a_damaged_file_is_told_with_its_name(tmp_path: Path):
    path = tmp_path / "relays.json"
    Relays(path, {"m": meter()}).load()
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"relays\.json cannot be read"):
        Relays(path, {"m": meter()}).load()
