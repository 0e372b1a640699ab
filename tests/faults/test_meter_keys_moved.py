"""Meter keys between gateways and head-end over a real broker: no invocation counter comes twice, whatever is put back.

The simulated meter keeps every counter that it was shown.
"""

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

import gateway.counters
import headend.births
from gateway.counters import BLOCK
from gateway.keystore import KeyStore
from gateway.master_key import make_master
from headend.key_office import KeyOffice
from headend.tokens import Grant
from metergate.centre import Centre, build
from metergate.commands.key_wrap import wrap_all
from metergate.commands.registry import take_in
from metergate.edge import run_edge
from metergate.headend_file import load_headend
from metergate.site import load_site
from metering import timing
from simulators.broker import MosquittoBroker, find_mosquitto
from simulators.dlms_meter import DlmsMeter
from simulators.dlms_security import GMAC_CLIENT
from simulators.dlms_security import test_keys as keys_of_simulators
from simulators.dlms_tcp import DlmsTcpServer
from simulators.meter import Meter, MeterSettings
from tests.faults.keyed_site import seen
from tests.faults.site_process import until
from trust.transport import public_key

__all__ = ["seen"]
pytestmark = [pytest.mark.fault, pytest.mark.real]
SERIAL = "70000123"
GRANT = Grant("t1", "custodian", frozenset({"admin"}), ("",))
SECRETS = keys_of_simulators()


class Place:
    """A broker, a head-end, one ciphered meter, and as many gateways as are started."""

    def __init__(
        self, folder: Path, broker: MosquittoBroker, at: tuple[str, int], counters: dict[str, list[int]]
    ) -> None:
        self.folder = folder
        self.broker = broker
        self.at = at
        self._counters = counters
        self.centre: Centre | None = None
        (folder / "master.key").write_text(make_master())

    @property
    def counters(self) -> list[int]:
        """Return all counters that the meter was shown."""
        return [counter for found in self._counters.values() for counter in found]

    def site(self, name: str) -> Path:
        """Write the file of a gateway and return it."""
        file = self.folder / f"{name}.toml"
        file.write_text(
            f'[gateway]\nid = "{name}"\ndata = "{self.folder / name}"\njitter = "100ms"\n'
            f'[gateway.log]\ncommit_every = "100ms"\n[schedule]\nregisters = "1s"\ninstantaneous = "1s"\n'
            f'[keys]\nmaster = "file:{self.folder / "master.key"}"\n'
            f'[uplink]\nhost = "127.0.0.1"\nport = {self.broker.port}\n'
            f'[[bus]]\nid = "wan"\nkind = "wrapper"\nhost = "{self.at[0]}"\nport = {self.at[1]}\n'
            f'[[meter]]\nid = "m1"\nprofile = "dlms_generic"\npoint = "MP-1"\nregion = "js"\nbus = "wan"\n'
            f'serial = "{SERIAL}"\ninstalled = "{timing.to_rfc3339(timing.now() - 3_600_000_000)}"\n'
            f'dlms = {{client = {GMAC_CLIENT}, authentication = "high-gmac", security = "authenticated-encrypted", '
            f'counter_obis = "0-0:43.1.{GMAC_CLIENT}*255"}}\n'
        )
        return file

    def keys(self, name: str) -> KeyStore:
        """Return a gateway's key store."""
        return KeyStore(self.folder / name / "keys", f"file:{self.folder / 'master.key'}")

    @asynccontextmanager
    async def gateway(self, name: str) -> AsyncIterator[None]:
        """Run a gateway."""
        stop = asyncio.Event()
        task = asyncio.create_task(run_edge(load_site(self.site(name)), stop))
        try:
            yield
        finally:
            stop.set()
            await task

    @property
    def office(self) -> KeyOffice:
        """Return the head-end's keys."""
        assert self.centre is not None
        return self.centre.sent.keys

    def assign(self, gateway: str) -> None:
        """Assign the meter to a gateway, as an operator does."""
        fleet = self.folder / "fleet.toml"
        both = "".join(f'[[gateway]]\nid = "{name}"\n' for name in ("gw1", "gw2"))
        meter = '[[meter]]\nid = "m1"\nprofile = "dlms_generic"\npoint = "MP-1"\nregion = "js"\n'
        fleet.write_text(f'{both}{meter}gateway = "{gateway}"\n')
        take_in(self.folder / "headend.toml", fleet)

    async def more(self, count: int = 4) -> None:
        """Wait until the meter was shown more counters."""
        before = len(self.counters)

        async def shown() -> bool:
            return len(self.counters) >= before + count

        await until(shown, "ciphered requests")

    async def lease(self, check: Callable[[str, str], bool], why: str) -> None:
        """Wait until state and holder of the lease are as they should be."""

        async def there() -> bool:
            view = await asyncio.to_thread(self.office.view, GRANT, "m1")
            return check(view.state, view.holder)

        await until(there, why)


@pytest.fixture
async def place(tmp_path: Path, seen: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
    monkeypatch.setattr(headend.births, "CALL_S", 0.5)  # how long a restarted gateway waits for its former run
    broker = MosquittoBroker()
    await broker.start()
    server = DlmsTcpServer({1: DlmsMeter(Meter(MeterSettings(serial=SERIAL)))})
    place = Place(tmp_path, broker, await server.start(), seen)
    file = tmp_path / "headend.toml"
    file.write_text(f'[headend]\ndata = "{tmp_path / "centre"}"\n[broker]\nhost = "127.0.0.1"\nport = {broker.port}\n')
    place.assign("gw1")
    place.centre = centre = build(load_headend(file))

    async def wait(stop: asyncio.Event) -> None:
        await stop.wait()

    running = asyncio.create_task(centre.run(wait))
    yield place
    centre.stop.set()
    await running
    centre.close()
    await server.close()
    await broker.stop()
    counters = place.counters
    assert counters
    assert len(set(counters)) == len(counters), "a counter came twice"


async def test_after_a_disk_image_was_put_back_counters_go_on_above_what_the_headend_knows(place: Place) -> None:
    place.keys("gw1").put("m1", {"encryption": SECRETS.encryption, "authentication": SECRETS.authentication}, counter=0)
    async with place.gateway("gw1"):
        await place.more()
    shutil.copytree(place.folder / "gw1", place.folder / "image")
    for _ in range(2):
        async with place.gateway("gw1"):
            await place.more()
    last = max(place.counters)
    assert last >= 2 * BLOCK

    async def known() -> bool:
        return (await asyncio.to_thread(place.office.view, GRANT, "m1")).floor > last

    async with place.gateway("gw1"):
        await until(known, "the last reservation at the head-end")
    floor = place.office.view(GRANT, "m1").floor
    shutil.rmtree(place.folder / "gw1")
    shutil.copytree(place.folder / "image", place.folder / "gw1")
    before = len(place.counters)
    async with place.gateway("gw1"):
        await place.more()
    assert min(place.counters[before:]) >= floor + BLOCK


async def test_with_the_headend_out_of_reach_an_old_image_goes_on_above_the_meters_own_word(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.counters, "START_HOLD_S", 0.3)
    place.keys("gw1").put("m1", {"encryption": SECRETS.encryption, "authentication": SECRETS.authentication}, counter=0)
    async with place.gateway("gw1"):
        await place.more()
    shutil.copytree(place.folder / "gw1", place.folder / "image")
    async with place.gateway("gw1"):
        await place.more()
    await place.broker.stop()
    shutil.rmtree(place.folder / "gw1")
    shutil.copytree(place.folder / "image", place.folder / "gw1")
    last, before = max(place.counters), len(place.counters)
    async with place.gateway("gw1"):
        await place.more()
    assert min(place.counters[before:]) >= last + BLOCK


async def test_wrapped_keys_move_with_their_meter_and_are_used_at_one_gateway_at_a_time(place: Place) -> None:
    shipment = place.folder / "shipment.toml"
    shipment.write_text(
        f'[m1]\nencryption = "{SECRETS.encryption.hex()}"\nauthentication = "{SECRETS.authentication.hex()}"\n'
        "counter = 0\n"
    )
    for name in ("gw1", "gw2"):
        out = place.folder / f"wrapped-{name}"
        wrap_all(shipment, name, public_key(place.keys(name).transport_key()).hex(), 1, out)
        body = msgspec.json.decode((out / "m1.json").read_bytes())
        bundle = base64.b64decode(body["bundle"])
        assert SECRETS.encryption not in bundle
        place.office.put(GRANT, "m1", name, 1, bundle)
    async with place.gateway("gw1"), place.gateway("gw2"):
        await place.lease(lambda state, holder: (state, holder) == ("held", "gw1"), "the keys at gw1")
        await place.more()
        assert place.keys("gw2").keys_of("m1").encryption == b""
        await asyncio.to_thread(place.assign, "gw2")
        await place.lease(lambda state, holder: (state, holder) == ("held", "gw2"), "the keys at gw2")
        assert place.keys("gw1").keys_of("m1").encryption == b""
        last, before = max(place.counters), len(place.counters)
        await place.more()
        assert min(place.counters[before:]) > last
        await asyncio.to_thread(place.assign, "gw1")
        await place.lease(lambda state, holder: (state, holder) == ("held", "gw1"), "the keys at gw1 again")
        await place.more()
    for path in (place.folder / "centre").rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            assert SECRETS.encryption not in raw
            assert SECRETS.encryption.hex().encode() not in raw
