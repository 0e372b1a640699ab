"""Commands against a simulated site that answers: what a person sees, and the exit code."""

import asyncio
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metergate.parts import build
from metergate.site import load_site
from metering.timing import now, to_rfc3339
from simulators.faults import Fault

Command = Callable[..., tuple[int, str, str]]
Rewrite = Callable[..., Path]
Simulated = Any  # the fixture's class in conftest.py, which tests cannot import


def run_gateway(file: Path, readings: int) -> None:
    """Run the site without its API until so many readings are in the log and in the store."""

    async def run() -> None:
        parts = build(load_site(file), with_api=False)

        async def end() -> None:
            while parts.gateway.status().recorder.readings < readings:  # noqa: ASYNC110 - a status, not an event
                await asyncio.sleep(0.05)
            parts.stop.set()

        try:
            async with asyncio.timeout(40):
                await asyncio.gather(parts.run(), end())
        finally:
            parts.close()

    asyncio.run(run())


# --- read -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meter", ["flat-1", "shop", "cellar-1"])
def test_read_prints_each_value_with_its_name_unit_quality_and_time(
    command: Command, site_file: Path, meter: str
) -> None:
    code, out, err = command("read", site_file, meter)
    assert (code, err) == (0, "")
    energy = next(line for line in out.splitlines() if "1-0:1.8.0*255" in line)
    assert re.search(r"\d+\.?\d* +kWh +valid +20\d\d-", energy)


def test_read_of_a_meter_that_publishes_waits_for_its_next_message(command: Command, site_file: Path) -> None:
    code, out, err = command("read", site_file, "sensor")
    assert code == 0
    assert "waiting for the next message of sensor, at most 60 s" in err
    assert "kWh" in out


def test_read_says_when_another_meter_answers(command: Command, rewrite: Rewrite, simulated: Simulated) -> None:
    serial = next(meter.serial for meter in simulated.places.meters if meter.id == "flat-1")
    code, out, err = command("read", rewrite((f'serial = "{serial}"', 'serial = "4711"')), "flat-1")
    assert (code, out) == (1, "")
    assert f"unit 1 shows serial number {serial}, installed is 4711" in err
    assert "another customer's" in err


def test_read_says_when_nobody_answers(command: Command, rewrite: Rewrite) -> None:
    code, _, err = command("read", rewrite(('bus = "cellar"\nunit = 1', 'bus = "cellar"\nunit = 9')), "cellar-1")
    assert code == 1
    assert "unit 9 did not answer in time" in err
    assert "check the meter's power, its address (unit 9 in the file), A and B swapped" in err


def test_read_says_when_the_line_is_down(command: Command, rewrite: Rewrite, simulated: Simulated) -> None:
    port = simulated.places.tcp["riser"].port
    code, _, err = command("read", rewrite((f"port = {port}", "port = 1")), "flat-1")
    assert code == 1
    assert "the line is at fault, not the meter" in err


def test_read_of_an_unknown_meter_names_those_that_there_are(command: Command, site_file: Path) -> None:
    code, _, err = command("read", site_file, "flat-9")
    assert code == 2
    assert "there is no meter 'flat-9' in the file; there are flat-1, shop, flat-3, cellar-1, sensor" in err


# --- what was recorded ------------------------------------------------------------------------------------------------


def test_what_a_gateway_recorded_is_inspected_and_exported(command: Command, site_file: Path, tmp_path: Path) -> None:
    run_gateway(site_file, 300)
    data = tmp_path / "data"
    for folder in (data, data / "log"):
        code, out, _ = command("log", "inspect", folder)
        assert code == 0
        assert "segments 1" in out
        assert "cursor store" in out
    span = ["--from", "2026-01-01T00:00:00Z", "--to", to_rfc3339(now() // 1_000_000 * 1_000_000 + 1_000_000)]
    code, out, err = command("export", site_file, *span)
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["point"] for row in rows} >= {"MP-1", "MP-2", "MP-3", "MP-4"}
    assert f"{len(rows)} readings of 5 meter points" in err
    one = tmp_path / "one.ndjson"
    code, out, _ = command("export", site_file, *span, "--point", "MP-2", "--format", "ndjson", "--out", one)
    assert (code, out) == (0, "")
    lines = [json.loads(line) for line in one.read_bytes().splitlines()]
    assert len(lines) == sum(row["point"] == "MP-2" for row in rows)
    assert {line["point"] for line in lines} == {"MP-2"}
    code, out, _ = command("doctor", site_file)
    assert code == 0, out
    assert "no gateway runs here now" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "xml"], "--format: there is no format 'xml'; choose of csv, ndjson"),
        (["--point", "MP-9"], "--point: there is no meter point 'MP-9' in the file"),
        (["--from", "2026-01-01"], "--from: '2026-01-01' has no offset"),
        (["--to", "yesterday"], "--to: "),
        (["--to", "2025-01-01T00:00:00Z"], "--to: lies before from"),
    ],
)
def test_export_refuses_what_it_cannot_answer(
    command: Command, site_file: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "data").mkdir()
    span = ["--from", "2026-01-01T00:00:00Z", "--to", "2026-02-01T00:00:00Z"]
    code, _, err = command("export", site_file, *span, *arguments)
    assert code == 2
    assert message in err


def test_an_export_that_fails_leaves_no_file(command: Command, site_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "no-folder" / "out.csv"
    (tmp_path / "data").mkdir()
    span = ["--from", "2026-01-01T00:00:00Z", "--to", "2026-02-01T00:00:00Z"]
    code, _, err = command("export", site_file, *span, "--out", out)
    assert code == 1
    assert "no-folder" in err


def test_quarantine_is_shown_with_the_reasons(command: Command, site_file: Path, tmp_path: Path) -> None:
    parts = build(load_site(site_file), with_api=False)
    parts.quarantine.put("mqtt:town/meter", "not JSON", b"\x00{")
    code, out, _ = command("log", "inspect", tmp_path / "data")
    assert code == 0
    assert "1 entries; show them with --quarantine" in out
    code, out, _ = command("log", "inspect", "--quarantine", tmp_path / "data")
    parts.close()
    assert "mqtt:town/meter  not JSON  2 B" in out


@pytest.mark.parametrize("what", ["no-folder", "."])
def test_inspect_of_something_else_than_a_log_fails(command: Command, tmp_path: Path, what: str) -> None:
    code, _, err = command("log", "inspect", tmp_path / what)
    assert code == (2 if what == "no-folder" else 1)
    assert "metergate: " in err


# --- token ------------------------------------------------------------------------------------------------------------


def test_a_token_is_made_listed_and_revoked(command: Command, site_file: Path) -> None:
    code, out, _ = command("token", "list", site_file)
    assert (code, out) == (0, "no token yet; make one with: metergate token create\n")
    code, token, _ = command(
        "token", "create", site_file, "--name", "billing", "--scope", "readings:read", "--region", "town"
    )
    assert code == 0
    identity, secret = re.fullmatch(r"mg_([0-9a-f]{8})_(\S+)\n", token).groups()
    _, out, _ = command("token", "list", site_file)
    assert identity in out
    assert secret not in out
    assert command("token", "revoke", site_file, identity)[0] == 0
    assert "revoked 20" in command("token", "list", site_file)[1]
    code, _, err = command("token", "revoke", site_file, "00000000")
    assert code == 2
    assert "there is no token '00000000'" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scope", "everything", "--everywhere"], "'everything' is not a scope"),
        (["--scope", "readings:read"], "a token needs a region prefix"),
        (["--scope", "readings:read", "--region", "/x"], "'/x' is not a region"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(
    command: Command, site_file: Path, arguments: list[str], message: str
) -> None:
    code, out, err = command("token", "create", site_file, "--name", "x", *arguments)
    assert (code, out) == (2, "")
    assert message in err


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_nothing_at_a_site_that_is_well(command: Command, site_file: Path) -> None:
    code, out, _ = command("doctor", site_file)
    assert code == 0, out
    for meter in ("flat-1", "shop", "flat-3", "cellar-1", "sensor"):
        assert re.search(rf"^ok +meter {meter}: ", out, re.MULTILINE)
    assert "all is well" in out


def test_the_doctor_tells_each_fault_and_what_to_do(
    command: Command, rewrite: Rewrite, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metergate.doctor_broker.LISTEN_S", 2.0)
    monkeypatch.setattr("metergate.doctor_search.ADDRESSES_S", 5.0)
    monkeypatch.setattr("metergate.doctor_search.SPEEDS_S", 1.0)
    serial = next(meter.serial for meter in simulated.places.meters if meter.id == "shop")
    file = rewrite(
        ('bus = "riser"\nunit = 1', 'bus = "riser"\nunit = 8'),  # flat-1 hangs at unit 1
        (f'serial = "{serial}"', 'serial = "4711"'),
        ('topic = "', 'topic = "not/'),
    )
    simulated.set_faults("cellar-1", Fault("bad_crc"))
    try:
        code, out, _ = command("doctor", file)
    finally:
        simulated.set_faults("cellar-1")
    assert code == 1
    assert re.search(r"WRONG +meter flat-1: .*unit 8 did not answer; check the meter's power", out)
    assert re.search(r"note +bus riser: unit 1 answers, which the file does not know", out)
    assert re.search(r"WRONG +meter shop: unit 2 shows serial number \S+, installed is 4711", out)
    assert re.search(r"ok +meter flat-3: answers", out)
    assert re.search(r"WRONG +meter cellar-1: .*; noise, two meters with one address, or another baud rate", out)
    assert re.search(r"WRONG +meter sensor: nothing came on not/", out)
    assert "4 wrong" in out


def test_the_doctor_tells_lines_store_and_broker_that_are_not_there(
    command: Command, rewrite: Rewrite, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metergate.doctor_broker.CONNECT_S", 1.0)
    places = simulated.places
    file = rewrite(
        (f"port = {places.broker.port}", "port = 1"),
        (f"port = {places.tcp['riser'].port}", "port = 1"),
        (str(places.rtu["cellar"]), "/dev/ttyNONE"),
        (
            "[api]",
            '[store]\nkind = "influxdb"\nurl = "http://127.0.0.1:1"\nbucket = "b"\ntoken = "env:NO_TOKEN"\n[api]',
        ),
    )
    code, out, _ = command("doctor", file)
    assert code == 1
    assert "the environment variable NO_TOKEN is not set" in out
    assert "127.0.0.1 is up but refuses port 1; correct port" in out
    assert "/dev/ttyNONE is not there; plug the adapter in" in out
    assert re.search(r"WRONG +broker: the broker 127.0.0.1:1 cannot be used: .*refused", out)
    monkeypatch.setenv("NO_TOKEN", "u:secret-word")
    code, out, err = command("doctor", file)
    assert re.search(r"WRONG +InfluxDB http://127.0.0.1:1: ", out)
    assert "secret-word" not in out + err


def test_the_doctor_leaves_a_running_gateway_its_log_and_its_serial_line(command: Command, site_file: Path) -> None:
    parts = build(load_site(site_file), with_api=False)
    code, out, _ = command("doctor", site_file)
    assert code == 0, out
    assert "a gateway has it open; this is its read-only view" in out
    assert "bus cellar: the running gateway owns the line" in out
    code, _, err = command("read", site_file, "cellar-1")
    parts.close()
    assert code == 1
    assert "the running gateway owns the line" in err
