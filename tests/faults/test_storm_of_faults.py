"""A site whose meters of all kinds do everything wrong for a long time: memory stays flat, and nobody is given up.

`STORM_SECONDS` is how long; then the faults are taken away and every meter has to be read again.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import get_args

import pytest

from metering import timing
from metering.model import SECOND
from simulators.dlms_faults import DlmsFault, DlmsKind
from simulators.dlt645_faults import Dlt645Fault, Dlt645Kind
from simulators.faults import LINK_KINDS, REPLY_KINDS, Fault
from simulators.fleet import Simulation
from simulators.fleet_file import Fleet
from tests.faults.keyed_site import ASKED, fill_keys, fleet_of, leaks, since, tables_of, written
from tests.faults.site_process import Site, until

pytestmark = [pytest.mark.fault, pytest.mark.soak, pytest.mark.timeout(0)]
STORM_S = float(os.environ.get("STORM_SECONDS", "600"))
SAMPLES = 40
CHANCE = 0.01  # of each kind of fault, at each request
LATE_S = 1.0
GROWTH = 16 << 20  # bytes that the second half of a storm may need more than the first, once all has been seen
# Not here: what nobody gets over without a person. A new key; a first answer that is damaged, which shows a wrong key.
FOR_EVER = {"key_changed", "clock_jump", "half_open", "babble"}
PEOPLE = {"damaged"}
CIPHERED = {"glo", "general"}
CALM_S = 3600  # meters that wasted much of a bus together are left alone for many minutes, each to its share
LOOK_S = 1.0


def dlms_faults(name: str) -> list[DlmsFault]:
    left_out = FOR_EVER | (PEOPLE if name in CIPHERED else set())
    kinds = [kind for kind in get_args(DlmsKind) if kind not in left_out]
    return [DlmsFault(kind, CHANCE, seconds=LATE_S) for kind in kinds]


def rss(pid: int) -> int:
    """Return the memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.fixture
async def simulations(tmp_path: Path) -> AsyncIterator[tuple[Simulation, Simulation]]:
    keyed = Simulation(fleet_of(since()), directory=tmp_path)
    units = [{"id": f"unit-{n}", "unit": n, "profile": "eastron_sdm630"} for n in (1, 2, 3)]
    modbus = Simulation(Fleet.model_validate({"seed": 3, "tcp": [{"id": "feeders", "meter": units}]}))
    await keyed.start()
    await modbus.start()
    yield keyed, modbus
    await keyed.close()
    await modbus.close()


def strike(keyed: Simulation, modbus: Simulation) -> None:
    """Switch all faults on."""
    for name, meter in keyed.dlms.meters.items():
        meter.faults.replace(dlms_faults(name))
    for dlt645 in keyed.dlt645.meters.values():
        dlt645.faults.replace([Dlt645Fault(kind, CHANCE, seconds=LATE_S) for kind in get_args(Dlt645Kind)])
    for name in modbus.units:
        kinds = sorted((LINK_KINDS | REPLY_KINDS) - FOR_EVER)
        modbus.set_faults(name, [Fault(kind, CHANCE / 3, seconds=LATE_S) for kind in kinds])


def calm(keyed: Simulation, modbus: Simulation) -> None:
    """Take them away."""
    for faults in (each.faults for meters in (keyed.dlms.meters, keyed.dlt645.meters) for each in meters.values()):
        faults.replace()  # type: ignore[attr-defined] # each kind of meter has its own kind of faults, and none fits all
    for name in modbus.units:
        modbus.set_faults(name)


async def test_after_a_long_storm_of_all_faults_memory_is_flat_and_every_meter_is_read(
    simulations: tuple[Simulation, Simulation], make_site: Callable[..., Site], tmp_path: Path
) -> None:
    keyed, modbus = simulations
    tables = tables_of(keyed, tmp_path, since())
    host, port = modbus.places["feeders"]  # type: ignore[misc] # an endpoint on TCP
    tables["bus"].append({"id": "feeders", "kind": "tcp", "host": host, "port": port})
    tables["meter"] += [
        {"id": name, "profile": "eastron_sdm630", "point": f"MP-{name}", "region": "js/nj", "bus": "feeders", "unit": n}
        for n, name in enumerate(modbus.units, 1)
    ]
    site = make_site(tables)
    fill_keys(tmp_path, site.data)
    await site.start()
    assert site.process is not None
    strike(keyed, modbus)
    memory = []
    answered = []
    for _ in range(SAMPLES):
        await asyncio.sleep(STORM_S / SAMPLES)
        memory.append(rss(site.process.pid))
        answered.append(await site.metric("exchanges_total", 'outcome="ok"'))
    # After the first quarter everything has been met that makes something large for a while.
    assert max(memory[SAMPLES // 2 :]) - max(memory[SAMPLES // 4 : SAMPLES // 2]) <= GROWTH
    quarters = answered[:: SAMPLES // 4]
    assert sorted(set(quarters)) == quarters, answered

    calm(keyed, modbus)
    ended = timing.now()
    async with asyncio.timeout(CALM_S):
        for name in sorted((set(ASKED) - {"wrong"}) | {"pair"} | set(modbus.units)):
            while not await _read_since(site, name, ended):  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(LOOK_S)
    await until(lambda: _drained(site), "the store has what the log has")
    assert {event["device"] for event in await site.events("key-refused")} == {"wrong"}
    assert await site.end() == 0
    assert not leaks(written(site.data, site.file, site.said))


async def _read_since(site: Site, device: str, since_us: int) -> bool:
    found = await site.registers(device, since=since_us, until=timing.now() + SECOND)
    return bool(found["readings"])


async def _drained(site: Site) -> bool:
    return await site.metric("store_lag") <= 2
