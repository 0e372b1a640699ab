"""What the doctor says of a DLMS meter: each thing that can be wrong, at simulated meters in which it is."""

import asyncio
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.app import Gateway
from gateway.dlms_meters import client_title
from gateway.keystore import KeyStore
from gateway.master_key import make_master
from metergate.parts import log_directory
from metergate.site import load_site
from metering.errors import AuthError
from simulators.dlms_clock import ClockSettings
from simulators.dlms_faults import DlmsFault, DlmsFaults, DlmsKind
from simulators.dlms_meter import DlmsMeter, DlmsSettings, ProfileSettings
from simulators.dlms_security import GMAC_CLIENT, PUBLIC, READER, AccessSettings, usual_clients
from simulators.dlms_security import test_keys as keys_of_simulators
from simulators.dlms_serial import DlmsLine
from simulators.dlms_tcp import DlmsTcpServer, Framing
from simulators.meter import Meter, MeterSettings
from storage.files import lock_directory
from storage.log import Log, LogLimits
from storage.quarantine import Quarantine

Command = Callable[..., tuple[int, str, str]]

SERIAL = "70000123"
OPEN = "client = 16"
LOW = f'client = {READER}, authentication = "low"'
GMAC = f'client = {GMAC_CLIENT}, authentication = "high-gmac", security = "authenticated-encrypted"'
GMAC_ENCRYPTED = f'client = {GMAC_CLIENT}, authentication = "high-gmac", security = "encrypted"'
SECRETS = keys_of_simulators()
WRONG = bytes(16)
LOAD_PROFILE = "1-0:99.1.0*255"


def made(settings: DlmsSettings | None = None, fault: DlmsKind | None = None, offset_s: float = 0.0) -> DlmsMeter:
    faults = DlmsFaults([DlmsFault(fault)] if fault else [])
    return DlmsMeter(Meter(MeterSettings(serial=SERIAL, offset_s=offset_s)), settings, faults=faults)


class Endpoints:
    """Endpoints in a loop of their own: the commands have event loops of their own, too."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._servers: list[DlmsTcpServer] = []

    def serve(self, meter: DlmsMeter, framing: Framing = "wrapper") -> str:
        server = DlmsTcpServer({1: meter}, framing=framing)
        self._servers.append(server)
        host, port = asyncio.run_coroutine_threadsafe(server.start(), self._loop).result(10)
        kind = "wrapper" if framing == "wrapper" else "hdlc-tcp"
        return f'kind = "{kind}"\nhost = "{host}"\nport = {port}'

    def close(self) -> None:
        for server in self._servers:
            asyncio.run_coroutine_threadsafe(server.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let who is silent be silent for a shorter time: nothing here is further away than this machine."""
    monkeypatch.setattr("collector.links.stream.HIDDEN_LIMIT_S", 0.2)
    monkeypatch.setattr("collector.links.stream.NETWORK_MARGIN_S", 0.3)
    monkeypatch.setattr("metergate.doctor_search.ADDRESSES_S", 4.0)


@pytest.fixture
def endpoints() -> Iterator[Endpoints]:
    """Endpoints that go with the test."""
    made = Endpoints()
    yield made
    made.close()


class Site:
    """A site file with one meter `m`, and its key store."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.file = folder / "site.toml"
        self.data = folder / "data"
        self._command = command
        self.master = folder / "master.key"
        self.master.write_text(make_master())

    def write(self, bus: str, dlms: str = OPEN, serial: str = SERIAL) -> None:
        self.file.write_text(
            f"""
[gateway]
id = "gw"
data = "{self.data}"

[keys]
master = "file:{self.master}"

[[bus]]
id = "b"
{bus}

[[meter]]
id = "m"
bus = "b"
profile = "dlms_generic"
point = "MP-1"
region = "town"
serial = "{serial}"
dlms = {{{dlms}}}
"""
        )

    def keys(self, epoch: str = "") -> KeyStore:
        return KeyStore(self.data / "keys", f"file:{self.master}", epoch=epoch)

    def secrets(self) -> dict[str, bytes]:
        return {name: getattr(SECRETS, name) for name in ("encryption", "authentication", "password")}

    def put(self, counter: int | None = None, **secrets: bytes) -> None:
        self.keys().put("m", {**self.secrets(), **secrets}, counter=counter)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold what a running gateway holds."""
        folder = log_directory(self.data)
        folder.mkdir(parents=True)
        lock = lock_directory(folder)
        yield
        os.close(lock)

    def doctor(self) -> str:
        """Return what the doctor says of the bus and the meter; no secret is among it."""
        _, out, err = self._command("doctor", self.file)
        assert err == ""
        for secret in (SECRETS.encryption.hex(), SECRETS.authentication.hex(), "12345678", "87654321"):
            assert secret not in out
        lines = [line for line in out.splitlines() if re.search(r"(bus \w|meter \w|keys): ", line)]
        return "\n".join(lines).replace(str(self.file), "FILE")

    async def gateway_reads(self) -> None:
        file = load_site(self.file)
        log = Log.open(self.data / "log", LogLimits(min_free_bytes=0))
        gateway = Gateway(file, log, Quarantine(self.data / "q"))
        try:
            with pytest.raises(AuthError):
                await gateway.read_now("m")
        finally:
            stop = asyncio.Event()
            stop.set()
            await gateway.run(stop)
            log.close()


@pytest.fixture
def site(tmp_path: Path, command: Command) -> Site:
    """A site whose file is still to be written."""
    return Site(tmp_path, command)


# --- who is let in ----------------------------------------------------------------------------------------------------


class Refused(NamedTuple):
    """A meter's settings and secrets of which something is wrong, and what the doctor says."""

    dlms: str
    secrets: dict[str, bytes]
    says: tuple[str, ...]


WRONG_ONES = {
    "client": Refused(
        "client = 99",
        {},
        ("the meter refuses the association", "correct client, server, authentication or security in the file"),
    ),
    "context": Refused(
        'client = 16, security = "authenticated-encrypted"',
        {},
        ("it does not know this context (plain or ciphered) for this client", "(client 16, server 1, security auth"),
    ),
    "no mechanism": Refused(
        f"client = {READER}",
        {},
        ("this client must authenticate itself", "correct authentication or client in the file (none for client 32)"),
    ),
    "another mechanism": Refused(
        f'client = {READER}, authentication = "high-md5"',
        {},
        ("it does not know this kind of authentication", "metergate key unlock FILE m"),
    ),
    "password": Refused(
        LOW,
        {"password": b"87654321"},
        (
            "authentication failed: wrong password",
            "the password is wrong",
            "metergate key add FILE m --password SECRET",
        ),
    ),
    "either key": Refused(
        GMAC,
        {"encryption": WRONG},
        (
            "wrong key, wrong authentication key or wrong system title",
            "the encryption key or authentication key is wrong",
            "metergate key add FILE m --encryption SECRET --authentication SECRET",
        ),
    ),
    "encryption key": Refused(
        GMAC_ENCRYPTED,
        {"encryption": WRONG},
        ("; the encryption key is wrong", "metergate key add FILE m --encryption SECRET;"),
    ),
    "authentication key": Refused(
        GMAC_ENCRYPTED,
        {"authentication": WRONG},
        ("the meter does not take our answer to its challenge", "; the authentication key is wrong"),
    ),
    "system title": Refused(
        f'{GMAC}, system_title = "4D47540000000001"',
        {},
        ("4d47540000000001 is configured", "another meter hangs there, or correct system_title in the file; then met"),
    ),
}


@pytest.mark.parametrize("which", WRONG_ONES)
def test_what_the_meter_refuses_is_told_apart(site: Site, endpoints: Endpoints, which: str) -> None:
    dlms, secrets, says = WRONG_ONES[which]
    meter = made()
    site.write(endpoints.serve(meter), dlms)
    site.put(counter=1, **secrets)
    told = site.doctor()
    for words in (f"{'WRONG'}  meter m: ", *says):
        assert words in told
    assert sum(meter.security.attempts.values()) <= 1


@pytest.mark.parametrize(("dlms", "secrets"), [(LOW, {"password": b"87654321"}), (GMAC, {"encryption": WRONG})])
def test_a_wrong_secret_costs_one_attempt_over_all_runs(
    site: Site, endpoints: Endpoints, command: Command, dlms: str, secrets: dict[str, bytes]
) -> None:
    meter = made()
    site.write(endpoints.serve(meter), dlms)
    site.put(counter=1, **secrets)
    site.doctor()
    assert "not asked until its key changes" in site.doctor()
    asyncio.run(site.gateway_reads())
    assert "not asked until its key changes" in command("read", site.file, "m")[2]
    assert "is wrong" in site.doctor()
    assert sum(meter.security.attempts.values()) == 1
    site.put()
    assert re.search(r"ok     meter m: answers, \d+ values", site.doctor())


# --- counters ---------------------------------------------------------------------------------------------------------


def test_a_counter_that_lags_far_behind_is_told_with_the_command_that_sets_it(site: Site, endpoints: Endpoints) -> None:
    meter = made()
    meter.security.expected[GMAC_CLIENT] = 500_000
    site.write(endpoints.serve(meter), GMAC)
    site.put(counter=77)
    for _ in range(2):
        told = site.doctor()
        assert re.search(r"its invocation counter stands at 500000, ours at \d+: more than 10000 ahead", told)
        assert "if that is true, say where it goes on: metergate key add FILE m --counter 500000" in told
    site.put(counter=500_000)
    assert "meter m: answers" in site.doctor()


def test_a_counter_that_lags_a_little_catches_up(site: Site, endpoints: Endpoints) -> None:
    meter = made()
    meter.security.expected[GMAC_CLIENT] = 5_000
    site.write(endpoints.serve(meter), GMAC)
    site.put(counter=1)
    assert "meter m: answers" in site.doctor()


@pytest.mark.parametrize("public", [True, False])
def test_a_halted_counter_is_told(site: Site, endpoints: Endpoints, *, public: bool) -> None:
    clients = tuple(client for client in usual_clients() if public or client.address != PUBLIC)
    site.write(endpoints.serve(made(DlmsSettings(access=AccessSettings(clients=clients)))), GMAC)
    site.put()
    before = site.keys("1111")
    before.counter_of("m", client_title("gw")).raise_to(9)
    before.close()
    after = site.keys("2222")
    after.counter_of("m", client_title("gw"))
    after.close()
    told = site.doctor()
    halted = "its invocation counter is halted, as this disk was restored or replaced"
    assert f"note   meter m: {halted}: the meter is asked for its own" in told
    if public:
        assert "meter m: answers" in told
    else:
        assert f"WRONG  meter m: {halted}, and the public client is not told" in told
        assert "say one that was never used with this key: metergate key add FILE m --counter N" in told


# --- the meter itself -------------------------------------------------------------------------------------------------


def test_a_meter_that_is_well_is_told_with_its_clock_and_its_memory(site: Site, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), GMAC)
    site.put(counter=1)
    told = site.doctor()
    assert re.search(r"ok     meter m: answers, \d+ values", told)
    assert re.search(r"ok     meter m: its clock is 0\.\d s (ahead|behind)", told)
    assert re.search(
        r"ok     meter m: profile load: every 15min, 57\d\d of 5760 entries in use, 60 days back, newest row 20", told
    )
    assert "WRONG" not in told


def test_a_busy_meter_is_told(site: Site, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made(fault="busy")), LOW)
    site.put()
    told = site.doctor()
    assert "(for now)" in told
    assert "it serves somebody else or is at work by itself: try again in some minutes" in told
    assert site.keys().refused("m") == ""


def test_another_meter_is_told_by_its_serial_number(site: Site, endpoints: Endpoints) -> None:
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
def test_a_clock_that_is_wrong_is_told(site: Site, endpoints: Endpoints, which: str) -> None:
    meter, says = CLOCKS[which]
    site.write(endpoints.serve(meter), LOW)
    site.put()
    told = site.doctor()
    assert re.search(says, told)
    assert "POST /v1/devices/m/clock" in told


def test_a_profile_that_the_meter_lacks_is_told(site: Site, endpoints: Endpoints) -> None:
    meter = made()
    del meter.objects[LOAD_PROFILE]
    site.write(endpoints.serve(meter), LOW)
    site.put()
    assert "note   meter m: profile load is not there: " in site.doctor()


def test_a_capture_period_that_the_schedule_does_not_expect_is_told(site: Site, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made(DlmsSettings(profile=replace(ProfileSettings(), period_s=1800)))), LOW)
    site.put()
    told = site.doctor()
    assert "note   meter m: profile load: every 30min, " in told
    assert "its schedule reads registers every 15min, so that not each boundary has a row" in told
    assert "have the meter capture every 15min, or say registers = '30min'" in told


# --- keys -------------------------------------------------------------------------------------------------------------


def test_missing_keys_are_told_and_the_meter_is_not_asked(site: Site, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), LOW)
    told = site.doctor()
    assert "there is no password: metergate key add FILE m --password SECRET" in told
    assert "meter m: not asked: its secrets are not there, see keys above" in told


@pytest.mark.parametrize(
    ("master", "says"), [(None, "cannot be read"), (make_master(), "the master key is not the one of")]
)
def test_a_master_key_that_opens_nothing_is_told(
    site: Site, endpoints: Endpoints, master: str | None, says: str
) -> None:
    site.write(endpoints.serve(made()), LOW)
    site.put()
    if master is None:
        site.master.unlink()
    else:
        site.master.write_text(master)
    told = site.doctor()
    assert re.search(rf"WRONG  keys: .*{says}", told)
    assert "the master key that made the store has to be there" in told
    assert "meter m: not asked" in told


def test_a_damaged_record_is_told(site: Site, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), LOW)
    site.put()
    store = site.data / "keys" / "keys.json"
    store.write_text(re.sub(r'("m": *"..)....', r"\g<1>0000", store.read_text()))
    assert "the record of m is damaged; put its keys in again" in site.doctor()


def test_counters_have_one_owner_for_all_buses(site: Site, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), GMAC)
    text = site.file.read_text()
    second = text[text.index("[[bus]]") :].replace('"b"', '"c"').replace('"m"', '"n"').replace("MP-1", "MP-2")
    site.file.write_text(text + re.sub(r"port = \d+", endpoints.serve(made()).splitlines()[-1], second))
    site.put(counter=1)
    site.keys().put("n", site.secrets(), counter=1)
    told = site.doctor()
    assert "WRONG" not in told
    assert "meter m: answers" in told
    assert "meter n: answers" in told


# --- a running gateway ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dlms", "what"), [(GMAC, "invocation counter"), (LOW, "password")])
def test_what_a_running_gateway_owns_is_left_to_it(site: Site, endpoints: Endpoints, dlms: str, what: str) -> None:
    meter = made()
    site.write(endpoints.serve(meter), dlms)
    site.put(counter=1, password=b"87654321", encryption=WRONG)
    with site.running():
        told = site.doctor()
    assert f"note   meter m: not asked: the running gateway owns the meter's {what}; its API reads it: POST /v1" in told
    assert not meter.security.attempts


def test_nobody_is_looked_for_on_a_line_that_a_running_gateway_owns(site: Site, tmp_path: Path) -> None:
    line = DlmsLine({1: made()}, path=tmp_path / "head", baud=2400)
    line.start()
    try:
        site.write(f'kind = "hdlc"\nport = "{tmp_path / "head"}"')
        with site.running():
            told = site.doctor()
        assert line.misheard == 0
    finally:
        line.close()
    assert "note   bus b: the running gateway owns the line; its /metrics say how it fares, and its API reads" in told


# --- who is there -----------------------------------------------------------------------------------------------------


def test_a_wrong_server_is_told_apart_from_silence(site: Site, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), "client = 16, server = 5")
    told = site.doctor()
    assert "WRONG  meter m: server 5 did not answer in time; " in told
    assert "check the meter's power, its address (server 5 in the file)" in told
    assert "note   bus b: server 1 answers, which the file does not know; if it is the silent one, correct" in told


def test_a_wrong_physical_address_is_told_apart_from_silence(site: Site, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made(), "hdlc"), "client = 16, physical = 18, address_bytes = 4")
    assert "note   bus b: server 1, physical 17 (address_bytes 4) answers, which the file does not" in site.doctor()


@pytest.mark.parametrize(("framing", "spoken"), [("hdlc", "hdlc-tcp"), ("wrapper", "wrapper")])
def test_another_framing_than_the_file_says_is_told(
    site: Site, endpoints: Endpoints, framing: Framing, spoken: str
) -> None:
    said = "wrapper" if spoken == "hdlc-tcp" else "hdlc-tcp"
    site.write(endpoints.serve(made(), framing).replace(f'kind = "{spoken}"', f'kind = "{said}"'))
    told = site.doctor()
    assert f"answers with kind = '{spoken}', the file says kind = '{said}'; say kind = '{spoken}' for the bus" in told


def test_a_meter_that_does_not_hear_at_all_is_silent(site: Site, endpoints: Endpoints) -> None:
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
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
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
