"""A fleet's gateways share its meters out evenly, and the files that it makes are good ones."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metergate.fleet.machine import allow_open_files
from metergate.fleet.plan import WORKER_GATEWAYS, Fleet, gateway_file, headend_file, registry_of
from metergate.headend_file import load_headend
from metering.errors import ConfigError


@given(st.integers(1, 2000), st.integers(0, 5000))
def test_each_meter_has_one_gateway_and_each_gateway_one_worker(gateways: int, more: int):
    fleet = Fleet(gateways, gateways + more, 10, "")
    meters = [meter for number in range(gateways) for meter in fleet.meters_of(number)]
    assert meters == list(range(gateways + more))
    workers = fleet.workers()
    assert [number for each in workers for number in each] == list(range(gateways))
    assert max(map(len, workers)) <= WORKER_GATEWAYS


def test_gateways_and_headend_know_the_same_meters(tmp_path: Path):
    fleet = Fleet(3, 1000, 10, str(tmp_path))
    central = {device.id: device.gateway for device in registry_of(fleet).devices}
    made = [gateway_file(fleet, number) for number in range(3)]
    assert central == {meter.id: each.gateway.id for each in made for meter in each.meter}
    assert len(central) == 1000
    assert [len(each.bus) for each in made] == [2, 2, 2]


def test_the_headends_file_is_a_good_one(tmp_path: Path):
    file = tmp_path / "headend.toml"
    file.write_text(headend_file(Fleet(3, 10, 10, "", port=1999), tmp_path / "headend", "127.0.0.1:1"))
    assert load_headend(file).broker.port == 1999


@pytest.mark.parametrize(
    ("fleet", "says"),
    [(Fleet(10, 5, 10, ""), "--meters 5"), (Fleet(1, 5, 7, ""), "--interval 7")],
    ids=["too-few-meters", "odd-interval"],
)
def test_what_cannot_be_is_told(fleet: Fleet, says: str):
    with pytest.raises(ConfigError, match=says):
        fleet.check()


def test_too_many_open_files_are_told_before_anything_starts():
    with pytest.raises(ConfigError, match=r"need 1099511627776 open files.*this user may have \d+"):
        allow_open_files(1 << 40, "1,000 gateways")
