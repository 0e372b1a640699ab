"""What a simulated fleet consists of: its gateways, their meters, and the files of gateways and head-end. Runs none."""

import zlib
from pathlib import Path

import msgspec

from gateway.models import load_any
from headend.state.registrar import Wanted
from metergate.fleet_file import device_of
from metergate.site import SiteFile
from metering.errors import ConfigError
from metering.model import Installation, MeterPoint

PROFILE = "eastron_sdm630"
# Running totals, as billing wants them: four values, one request.
POINTS = ("active_energy_import", "active_energy_export", "reactive_energy_import", "reactive_energy_export")
BUS_METERS = 200  # meters on one bus of a gateway; Modbus has 247 addresses
WORKER_GATEWAYS = 250  # gateways in one process
REGION = "fleet"
QUARTER_S = 900  # the usual interval of a fleet in the field


class Fleet(msgspec.Struct, frozen=True):
    """A fleet and where it lives. Meters are shared out evenly; `interval` is the seconds between their reads."""

    gateways: int
    meters: int
    interval: int
    folder: str
    host: str = "127.0.0.1"
    port: int = 1883

    def check(self) -> None:
        """Raise `ConfigError` where it cannot be."""
        if self.meters < self.gateways:
            raise ConfigError(f"--meters {self.meters}: each of the {self.gateways} gateways needs one at least")
        if self.interval < 1 or 86400 % self.interval:
            raise ConfigError(f"--interval {self.interval}: use whole seconds that divide a day")

    def gateway(self, number: int) -> str:
        """Return the id of a gateway."""
        return f"gw-{number:05d}"

    def meters_of(self, number: int) -> range:
        """Return the numbers of a gateway's meters."""
        return range(self.meters * number // self.gateways, self.meters * (number + 1) // self.gateways)

    def workers(self) -> list[range]:
        """Return the gateways of each worker process."""
        count = -(-self.gateways // WORKER_GATEWAYS)
        return [range(self.gateways * n // count, self.gateways * (n + 1) // count) for n in range(count)]

    def readings_per_s(self) -> float:
        """Return what the fleet reads on average, and so sends."""
        return self.meters * len(POINTS) / self.interval


def meter_id(number: int) -> str:
    """Return the id of a meter."""
    return f"m-{number:07d}"


def load_kw(number: int) -> float:
    """Return the steady load of a meter."""
    return 0.2 + zlib.crc32(meter_id(number).encode()) % 5000 / 1000


def buses_of(fleet: Fleet, number: int) -> dict[str, dict[int, int]]:
    """Return the buses of a gateway: unit address to the meter's number, by the bus's id."""
    buses: dict[str, dict[int, int]] = {}
    for place, meter in enumerate(fleet.meters_of(number)):
        buses.setdefault(f"b{place // BUS_METERS}", {})[place % BUS_METERS + 1] = meter
    return buses


def gateway_file(fleet: Fleet, number: int) -> SiteFile:
    """Return the configuration of a gateway: that of a real one, but for a wire that leads nowhere."""
    buses = buses_of(fleet, number)
    name = fleet.gateway(number)
    return SiteFile.model_validate(
        {
            "gateway": {"id": name, "data": str(Path(fleet.folder) / name), "jitter": f"{fleet.interval}s"},
            "schedule": {"registers": f"{fleet.interval}s"},
            "uplink": {"host": fleet.host, "port": fleet.port},
            "bus": [{"id": bus, "kind": "tcp", "host": "127.0.0.1"} for bus in buses],
            "meter": [
                {"id": meter_id(meter), "bus": bus, "unit": unit, "only": list(POINTS), **_where(meter)}
                for bus, units in buses.items()
                for unit, meter in units.items()
            ],
        }
    )


def headend_file(fleet: Fleet, data: Path, api: str) -> str:
    """Return the text of the head-end's file."""
    return (
        f'[headend]\ndata = "{data}"\n[broker]\nhost = "{fleet.host}"\nport = {fleet.port}\n[api]\nlisten = "{api}"\n'
    )


def registry_of(fleet: Fleet) -> Wanted:
    """Return what the head-end's registry is to hold: all gateways and meters."""
    model = load_any(PROFILE, None)
    numbers = range(fleet.gateways)
    meters = [(meter_id(meter), _where(meter), number) for number in numbers for meter in fleet.meters_of(number)]
    return Wanted(
        [fleet.gateway(number) for number in numbers],
        [MeterPoint(where["point"], where["region"]) for _, where, _ in meters],
        [device_of(name, "", PROFILE, model, fleet.gateway(number)) for name, _, number in meters],
        [Installation(where["point"], name, "", 0) for name, where, _ in meters],
        {},
    )


def _where(meter: int) -> dict[str, str]:
    return {"profile": PROFILE, "point": f"MP-{meter:07d}", "region": REGION}
