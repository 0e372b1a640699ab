"""`metergate registry`: fills the head-end's registry from a file and lists it. A running head-end is not needed."""

import contextlib
import getpass
from pathlib import Path

from headend.registry import EVERYWHERE, installation_on
from headend.state.gateways import Gateways
from headend.state.registrar import Registrar
from headend.state.registry import DatabaseRegistry
from metergate.fleet_file import load_fleet
from metergate.headend_file import load_headend, open_state
from metering import timing


def take_in(file: Path, fleet: Path) -> None:
    """Take a fleet's file into the registry."""
    headend = load_headend(file)
    wanted = load_fleet(fleet, headend.headend.profiles)
    with contextlib.closing(open_state(headend)) as state:
        changed = Registrar(state).take_in(wanted, timing.now(), f"user:{getpass.getuser()}")
    print(f"{len(wanted.gateways)} gateways, {len(wanted.devices)} meters; {changed} meters are new or changed")


def show(file: Path) -> None:
    """Print gateways and meters."""
    with contextlib.closing(open_state(load_headend(file))) as state:
        gateways = Gateways(state).list()
        registry = DatabaseRegistry(state)
    now = timing.now()
    for gateway in gateways:
        if gateway.revoked_at is not None:
            word = f"revoked {timing.to_rfc3339(gateway.revoked_at)}"
        elif gateway.enrolled_at is not None:
            word = f"enrolled {timing.to_rfc3339(gateway.enrolled_at)}  certificate {gateway.fingerprint[:16]}"
        else:
            word = "not enrolled"
        print(f"gateway  {gateway.id}  {word}")
    for device in registry.devices((EVERYWHERE,)):
        here = installation_on(registry.installations_of(device.id), now)
        place = f"at {here.point}" if here is not None else "not installed"
        print(f"meter  {device.id}  {device.profile}  {place}  read by {device.gateway or 'nobody'}")
    if not gateways:
        print("no gateway yet; take some in with: metergate registry import HEADEND.toml FLEET.toml")
