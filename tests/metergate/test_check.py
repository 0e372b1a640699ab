"""What `metergate check` says about lines and log."""

from collections.abc import Callable
from pathlib import Path

import pytest

from collector.bus import cycle_time
from collector.links import LinkParameters
from gateway.lines import make_bus_meters
from metergate.commands.check import bus_warnings
from metergate.forecast import forecast_buses
from metergate.forecast_log import days_of_autonomy, flash_bytes_per_year, forecast_log
from metergate.site import SiteFile, load_site

Command = Callable[..., tuple[int, str, str]]


def site(meters: int, *, registers: str = "15min", instantaneous: str = "5min", max_size: str = "1 GiB") -> SiteFile:
    meter = {"bus": "line", "profile": "eastron_sdm630", "region": "a"}
    return SiteFile.model_validate(
        {
            "gateway": {"id": "gw", "data": "/nowhere", "log": {"max_size": max_size}},
            "schedule": {"registers": registers, "instantaneous": instantaneous},
            "bus": [{"id": "line", "kind": "rtu", "port": "/dev/ttyS9", "baud": 9600}],
            "meter": [{"id": f"m{n}", "unit": n, "point": f"P{n}", **meter} for n in range(1, meters + 1)],
        }
    )


def test_the_load_is_the_wire_time_over_the_period() -> None:
    file = site(10)
    bus = forecast_buses(file)[0]
    one = make_bus_meters(file, lambda *_: None)["m1"]
    line = LinkParameters(9600, "8E1")
    registers = 10 * cycle_time(line, one.registers.exchanges())
    moments = 10 * cycle_time(line, one.moments.exchanges())
    assert bus.load == pytest.approx(registers / 900 + moments / 300)
    assert {cycle.schedule: cycle.seconds for cycle in bus.cycles} == pytest.approx(
        {"registers": registers, "instantaneous": moments}
    )
    assert (bus.meters, bus.share) == (10, pytest.approx(0.1))
    assert bus_warnings(bus) == []


def test_a_cycle_that_does_not_fit_into_its_period_is_a_warning() -> None:
    bus = forecast_buses(site(30, instantaneous="10s"))[0]
    assert any(
        "a cycle of instantaneous takes" in each and "does not fit into its 10s" in each for each in bus_warnings(bus)
    )


def test_a_load_above_the_limit_is_a_warning_with_the_meter_that_costs_most() -> None:
    bus = forecast_buses(site(24, instantaneous="15s"))[0]
    assert 0.8 < bus.load < 1.0
    assert "leaves no room for retries" in bus_warnings(bus)[0]


def test_the_days_are_the_packed_bytes_into_the_logs_size_and_no_more_than_its_age() -> None:
    file = site(20)
    log = forecast_log(file)
    assert log.readings == pytest.approx(20 * (96 * 12 + 288 * 37), rel=0.3)
    assert days_of_autonomy(file, log) == 40
    small = site(20, max_size="16 MiB")
    assert days_of_autonomy(small, log) == pytest.approx((16 << 20) / log.bytes)


def test_flash_writes_count_whole_pages_of_each_commit() -> None:
    log = forecast_log(site(20))
    assert log.flash_bytes >= log.commits * 4096
    assert log.flash_bytes >= log.bytes
    assert flash_bytes_per_year(site(20), log) > 365 * log.flash_bytes


def test_reads_that_meet_in_a_commit_share_its_page() -> None:
    log = forecast_log(site(2, registers="1s", instantaneous="1s"))
    assert log.commits == pytest.approx(86_400)


def test_check_prints_each_bus_and_the_log(command: Command, rewrite: Callable[..., Path]) -> None:
    file = rewrite(('registers = "1s"', 'registers = "15min"'), ('instantaneous = "1s"', 'instantaneous = "1min"'))
    code, out, err = command("check", file)
    assert (code, err) == (0, "")
    assert "correct; 4 meters on 2 buses, 1 that publish by themselves" in out
    assert "bus riser (tcp 127.0.0.1:" in out
    assert "registers every 15min: predicted cycle" in out
    assert "costs most" in out
    assert "autonomy" in out
    assert "flash writes about" in out
    assert "not verified by a second source: " in out


def test_check_of_an_overloaded_line_warns_and_fails(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    meters = "".join(
        f'[[meter]]\nid = "m{n}"\nbus = "line"\nunit = {n}\nprofile = "eastron_sdm630"\npoint = "P{n}"\nregion = "a"\n'
        for n in range(1, 21)
    )
    path.write_text(
        f'[gateway]\nid = "gw"\ndata = "{tmp_path / "data"}"\n[schedule]\ninstantaneous = "1s"\n'
        f'[gateway.log]\nmax_size = "16 MiB"\n[[bus]]\nid = "line"\nkind = "rtu"\nport = "/dev/ttyS9"\n{meters}'
    )
    code, out, _ = command("check", path)
    assert code == 1
    assert "WARNING bus line: a cycle of instantaneous takes" in out
    assert "short of the 40 days to aim at: give it" in out
    assert not (tmp_path / "data").exists()
    assert load_site(path)


def test_a_meters_own_records_take_their_time_on_the_line_and_their_room_in_the_log() -> None:
    table = {"id": "m", "bus": "line", "address": "000000000161", "profile": "dlt645_2007", "zone": "Asia/Shanghai"}
    file = SiteFile.model_validate(
        {
            "gateway": {"id": "gw", "data": "data"},
            "bus": [{"id": "line", "kind": "dlt645", "port": "/dev/ttyS9"}],
            "meter": [table | {"point": "P", "region": "a"}],
        }
    )
    bus = forecast_buses(file)[0]
    cycles = {cycle.schedule: cycle for cycle in bus.cycles}
    assert {"registers", "instantaneous", "profile load_record_1"} <= set(cycles)
    assert all(0 < cycle.seconds < cycle.period_s for cycle in cycles.values())
    of_records = sum(86_400 / cycle.period_s for name, cycle in cycles.items() if name.startswith("profile"))
    of_polls = 96 * 2 + 288 * 3  # at least
    assert forecast_log(file).readings > of_records + of_polls
