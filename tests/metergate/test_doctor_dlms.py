"""What the doctor says of a DLMS meter itself and of who answers on its line, at simulated meters and lines."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.dlms_clock import ClockSettings
from simulators.dlms_meter import DlmsSettings, ProfileSettings
from simulators.dlms_serial import DlmsLine
from simulators.dlms_tcp import Framing
from tests.metergate.dlms_site import GMAC, LOAD_PROFILE, LOW, SERIAL, DlmsSite, Endpoints, made

pytestmark = pytest.mark.usefixtures("short_waits")

# --- the meter itself -------------------------------------------------------------------------------------------------


def test_a_meter_that_is_well_is_told_with_its_clock_and_its_memory(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), GMAC)
    site.put(counter=1)
    told = site.doctor()
    assert re.search(r"ok     meter m: answers, \d+ values", told)
    assert re.search(r"ok     meter m: its clock is 0\.\d s (ahead|behind)", told)
    assert re.search(
        r"ok     meter m: profile load: every 15min, 57\d\d of 5760 entries in use, 60 days back, newest row 20", told
    )
    assert "WRONG" not in told


def test_a_busy_meter_is_told(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made(fault="busy")), LOW)
    site.put()
    told = site.doctor()
    assert "(for now)" in told
    assert "it serves somebody else or is at work by itself: try again in some minutes" in told
    assert site.keys().refused("m") == ""


def test_another_meter_is_told_by_its_serial_number(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), serial="4711")
    told = site.doctor()
    assert f"server 1 shows serial number {SERIAL}, installed is 4711" in told
    assert "another meter hangs there: correct its address or serial in the file" in told


CLOCKS = {
    "far off": (
        made(offset_s=-300.0),
        r"WRONG  meter m: its clock is (299|300)\.\d s behind; set it: metergate clock FILE m --set",
    ),
    "doubtful": (
        made(DlmsSettings(clock=ClockSettings(status=1))),
        r"WRONG  meter m: says itself that its clock is invalid or doubtful",
    ),
}


@pytest.mark.parametrize("which", CLOCKS)
def test_a_clock_that_is_wrong_is_told(site: DlmsSite, endpoints: Endpoints, which: str) -> None:
    meter, says = CLOCKS[which]
    site.write(endpoints.serve(meter), LOW)
    site.put()
    told = site.doctor()
    assert re.search(says, told)
    assert "POST /v1/devices/m/clock" in told


def test_a_profile_that_the_meter_lacks_is_told(site: DlmsSite, endpoints: Endpoints) -> None:
    meter = made()
    del meter.objects[LOAD_PROFILE]
    site.write(endpoints.serve(meter), LOW)
    site.put()
    assert "note   meter m: profile load is not there: " in site.doctor()


def test_a_capture_period_that_the_schedule_does_not_expect_is_told(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made(DlmsSettings(profile=replace(ProfileSettings(), period_s=1800)))), LOW)
    site.put()
    told = site.doctor()
    assert "note   meter m: profile load: every 30min, " in told
    assert "its schedule reads registers every 15min, so that not each boundary has a row" in told
    assert "have the meter capture every 15min, or say registers = '30min'" in told


# --- who is there -----------------------------------------------------------------------------------------------------


def test_a_wrong_server_is_told_apart_from_silence(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), "client = 16, server = 5")
    told = site.doctor()
    assert "WRONG  meter m: server 5 did not answer in time; " in told
    assert "check the meter's power, its address (server 5 in the file)" in told
    assert "note   bus b: server 1 answers, which the file does not know; if it is the silent one, correct" in told


def test_a_wrong_physical_address_is_told_apart_from_silence(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made(), "hdlc"), "client = 16, physical = 18, address_bytes = 4")
    assert "note   bus b: server 1, physical 17 (address_bytes 4) answers, which the file does not" in site.doctor()


@pytest.mark.parametrize(("framing", "spoken"), [("hdlc", "hdlc-tcp"), ("wrapper", "wrapper")])
def test_another_framing_than_the_file_says_is_told(
    site: DlmsSite, endpoints: Endpoints, framing: Framing, spoken: str
) -> None:
    said = "wrapper" if spoken == "hdlc-tcp" else "hdlc-tcp"
    site.write(endpoints.serve(made(), framing).replace(f'kind = "{spoken}"', f'kind = "{said}"'))
    told = site.doctor()
    assert f"answers with kind = '{spoken}', the file says kind = '{said}'; say kind = '{spoken}' for the bus" in told


def test_a_meter_that_does_not_hear_at_all_is_silent(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made(fault="silent")))
    told = site.doctor()
    assert "check the meter's power, its address (server 1 in the file), the wiring behind the gateway" in told
    assert "note   bus b: nobody answers, in no other way either that was tried" in told


LINES = {
    "baud": (
        {"baud": 115200},
        "baud = 9600",
        "server 1 (address_bytes 1) answers with baud = 115200, format = '8N1', start = 'direct', the file says ",
    ),
    "mode E": (
        {"baud": 9600, "mode_e": True},
        "baud = 9600",
        "a MGT meter answers with baud = 9600, format = '8N1', start = 'mode-e', the file says ",
    ),
    "no mode E": (
        {"baud": 9600},
        'baud = 9600\nstart = "mode-e"',
        "answers with baud = 9600, format = '8N1', start = 'direct', the file says ",
    ),
    "nothing wrong": ({"baud": 19200}, "baud = 19200", "meter m: answers"),
}


@pytest.mark.parametrize("which", LINES)
def test_a_serial_line_is_spoken_to_at_other_speeds(
    site: DlmsSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr("metergate.doctor_search.ADDRESSES_S", 1.0)
    line_is, file_says, says = LINES[which]
    line = DlmsLine({1: made()}, path=tmp_path / "head", **line_is)  # type: ignore[arg-type] # as the table says
    line.start()
    try:
        site.write(f'kind = "hdlc"\nport = "{tmp_path / "head"}"\n{file_says}', LOW)
        site.put()
        told = site.doctor()
    finally:
        line.close()
    assert says in told


def test_a_meter_that_says_nonsense_is_not_looked_for_elsewhere(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made(fault="nested")), LOW)
    site.put()
    told = site.doctor()
    assert "WRONG  meter m: " in told
    assert "bus b: nobody" not in told
