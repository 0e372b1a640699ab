"""`metergate quarantine`: lists what a head-end held back, and notes what a person decides. It moves no reading."""

import contextlib
import getpass
from pathlib import Path

from headend.state.held import Decision, HeldBack, Order
from metergate.headend_file import load_headend, open_state
from metering.errors import ConfigError
from metering.model import SECOND
from metering.timing import now, to_rfc3339

MAX_REASON = 500


def show(file: Path) -> None:
    """Print what waits."""
    with contextlib.closing(open_state(load_headend(file))) as state:
        heaps = HeldBack(state).heaps()
    for each in heaps:
        print(
            f"gateway {each.gateway}  device {each.device}  {each.source}  {each.readings} readings  "
            f"{to_rfc3339(each.first)} to {to_rfc3339(each.last)}  gateway's clock {_offset(each.offset_from)} to "
            f"{_offset(each.offset_to)} ahead"
        )
    if not heaps:
        print("nothing is held back")


def decide(file: Path, action: Decision, gateway: str, device: str, reason: str, offset_s: float | None) -> None:
    """Note a decision; a running head-end carries it out within seconds, another at its start."""
    if not reason.strip() or len(reason) > MAX_REASON:
        raise ConfigError(f"--reason: say why, in at most {MAX_REASON} characters")
    offset = None if offset_s is None else round(offset_s * SECOND)
    order = Order(action, gateway, device, f"user:{getpass.getuser()}", reason, offset)
    with contextlib.closing(open_state(load_headend(file))) as state:
        count = HeldBack(state).decide(order, now())
    if not count:
        raise ConfigError(f"nothing of gateway {gateway!r} waits that can be decided so: see metergate quarantine list")
    print(f"{count} blocks: {action}; a running head-end takes them in within seconds")


def _offset(offset: int | None) -> str:
    return "?" if offset is None else f"{offset / SECOND:.1f} s"
