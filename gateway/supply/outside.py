"""What supply control needs to know of the gateway around it. It holds no state."""

from collections.abc import Callable
from typing import NamedTuple

from gateway.meters import BusMeter


class Outside(NamedTuple):
    """The gateway as supply control sees it. `now` in us UTC; `lockout` says why nothing is withheld, if so."""

    meter: Callable[[str], BusMeter | None]
    meters: Callable[[], int]
    now: Callable[[], int]
    clock_trusted: Callable[[], bool]
    lockout: Callable[[], str]
    dry_run: bool = False
