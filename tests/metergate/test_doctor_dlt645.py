"""What the doctor says of a DL/T 645 meter: each thing that can be wrong, at simulated meters in which it is."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from collector.dlt645_profile import load_dlt645_profile
from gateway.keystore import KeyStore
from gateway.master_key import make_master
from metering import timing
from simulators.dlt645_faults import Dlt645Fault, Dlt645Faults
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.dlt645_serial import Dlt645SerialLine
from simulators.dlt645_tcp import Dlt645TcpServer
from simulators.meter import Meter, MeterSettings

Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("short_waits")

ADDRESS = "000000000161"
OTHER = "000000000998"


def made(
    address: str = ADDRESS,
    faults: Sequence[Dlt645Fault] = (),
    offset_s: float = 0.0,
    profile: str = "dlt645_2007_3p",
) -> Dlt645Meter:
    meter = Meter(MeterSettings(serial=address, offset_s=offset_s))
    return Dlt645Meter(
        meter, load_dlt645_profile(profile), Dlt645Made(address), faults=Dlt645Faults(faults), clock=timing.now
    )


class Site:
    """A site file with DL/T 645 meters on one bus."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.file = folder / "site.toml"
        self.folder = folder
        self._command = command
        self.master = folder / "master.key"
        self.master.write_text(make_master())

    def write(self, bus: str, *addresses: str, profile: str = "dlt645_2007_3p") -> None:
        text = f"""
[gateway]
id = "gw"
data = "{self.folder / "data"}"

[keys]
master = "file:{self.master}"

[[bus]]
id = "b"
{bus}
"""
        for number, address in enumerate(addresses or (ADDRESS,), 1):
            text += f"""
[[meter]]
id = "m{number}"
bus = "b"
profile = "{profile}"
point = "MP-{number}"
region = "town"
zone = "Asia/Shanghai"
address = "{address}"
only = ["active_import"]
"""
        self.file.write_text(text)

    def keys(self) -> KeyStore:
        return KeyStore(self.folder / "data" / "keys", f"file:{self.master}")

    def doctor(self) -> str:
        """Return what the doctor says of the bus and its meters."""
        _, out, err = self._command("doctor", self.file)
        assert err == ""
        lines = [line for line in out.splitlines() if re.search(r"(bus b|meter m\d): ", line)]
        return "\n".join(lines).replace(str(self.file), "FILE")


@pytest.fixture
def site(tmp_path: Path, command: Command) -> Site:
    """A site whose file is still to be written."""
    return Site(tmp_path, command)


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """What puts meters behind an endpoint, in a loop of its own, and returns its bus."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers: list[Dlt645TcpServer] = []

    def start(*meters: Dlt645Meter) -> str:
        server = Dlt645TcpServer({meter.made.address: meter for meter in meters})
        servers.append(server)
        host, port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        return f'kind = "dlt645-tcp"\nhost = "{host}"\nport = {port}'

    yield start
    for server in servers:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def test_a_meter_that_is_well_is_told_with_its_clock_and_its_memory(site: Site, serve: Callable[..., str]) -> None:
    site.write(serve(made()))
    told = site.doctor()
    assert re.search(r"ok     meter m1: answers, \d+ values", told)
    assert re.search(r"ok     meter m1: its clock is \d\.\d s (ahead|behind)", told)
    assert "ok     meter m1: profile daily_freeze: every 1d, 62 days back as its model says, newest row 20" in told
    assert "WRONG" not in told


def test_a_wrong_address_is_told_with_the_address_that_is_there(site: Site, serve: Callable[..., str]) -> None:
    site.write(serve(made()), OTHER)
    told = site.doctor()
    assert "WRONG  meter m1: " in told
    assert f"check the meter's power, its address (address {OTHER} in the file)" in told
    assert f"note   bus b: address {ADDRESS} answers, which the file does not know; if it is the s" in told


ERRORS = {
    1: "another error",
    2: "no such data",
    4: "wrong password or not authorised",
    6: "no such data, wrong password or not authorised",
}


@pytest.mark.parametrize("code", ERRORS)
def test_the_bits_of_an_error_are_told_in_words(site: Site, serve: Callable[..., str], code: int) -> None:
    site.write(serve(made(faults=[Dlt645Fault("error", code=code)])))
    told = site.doctor()
    assert f"WRONG  meter m1: the meter refuses: {ERRORS[code]}" in told
    assert "is it really a" in told


def test_a_password_that_was_refused_is_told(site: Site, serve: Callable[..., str]) -> None:
    site.write(serve(made()))
    store = site.keys()
    store.put("m1", {"password": bytes.fromhex("123456")})
    store.refuse("m1", "the meter refuses: wrong password or not authorised")
    told = site.doctor()
    assert "WRONG  meter m1: it refused its password: the meter refuses: wrong password or not authorised" in told
    assert "the password is wrong: metergate key add FILE m1 --password SECRET; it is asked again once" in told
    assert "ok     meter m1: answers" in told
    assert "123456" not in told


def test_a_clock_that_is_far_off_is_told(site: Site, serve: Callable[..., str]) -> None:
    site.write(serve(made(offset_s=300.0)))
    assert re.search(r"WRONG  meter m1: its clock is (299|300|301)\.\d s ahead; set it", site.doctor())


# --- serial lines -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hang(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """What hangs meters on a serial line and returns its bus, whose file says 9600 baud."""
    lines: list[Dlt645SerialLine] = []

    def start(baud: int, *meters: Dlt645Meter) -> str:
        path = tmp_path / "line"
        line = Dlt645SerialLine({meter.made.address: meter for meter in meters}, path=path, baud=baud)
        lines.append(line)
        line.start()
        return f'kind = "dlt645"\nport = "{path}"\nbaud = 9600\nopen_as = "8N1"'

    yield start
    for line in lines:
        line.close()


def test_the_speed_at_which_a_line_answers_is_told(site: Site, hang: Callable[..., str]) -> None:
    site.write(hang(1200, made()))
    told = site.doctor()
    said = "baud = 1200, format = '8E1'"
    assert f"address {ADDRESS} answers with {said}, the file says baud = 9600, format = '8E1'; say {said}" in told


def test_a_meter_that_knows_no_wildcard_is_found_at_its_speed(site: Site, hang: Callable[..., str]) -> None:
    site.write(hang(2400, made(profile="dlt645_1997")), profile="dlt645_1997")
    assert f"address {ADDRESS} answers with baud = 2400, format = '8E1', the file says " in site.doctor()


def test_nobody_at_any_speed_is_told(site: Site, hang: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metergate.doctor_search.SPEEDS_S", 1.0)
    site.write(hang(9600))
    told = site.doctor()
    assert "note   bus b: nobody answers, in no other way either that was tried (addresses, speeds, formats)" in told


def test_noise_is_told_apart_from_silence(
    site: Site, hang: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metergate.doctor_search.SPEEDS_S", 1.0)
    monkeypatch.setattr("metergate.doctor_search.COLLISIONS_S", 1.0)
    site.write(hang(9600, made(faults=[Dlt645Fault("damaged")])))
    assert re.search(r"WRONG  meter m1: .*; noise, two meters with one address, or another baud rate", site.doctor())
