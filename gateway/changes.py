"""What differs between two configurations of a gateway, by bus and meter. It compares; it changes nothing."""

from typing import NamedTuple

from gateway.settings import GatewayFile, MeterSettings


class Changes(NamedTuple):
    """Ids. A bus is `opened`, `closed`, or both where its wire changed; `kept` meters are read on as they were.

    `touched` are buses that both configurations have and where something else than the order of the file changed.
    """

    opened: frozenset[str]
    closed: frozenset[str]
    kept: frozenset[str]
    touched: frozenset[str]


def differences(old: GatewayFile, new: GatewayFile) -> Changes:
    """Return what is to be done to come from `old` to `new`."""
    before = {bus.id: bus for bus in old.bus}
    after = {bus.id: bus for bus in new.bus}
    same = {name for name, bus in after.items() if before.get(name) == bus}
    had, has = _meters(old), _meters(new)
    kept = frozenset(
        name for name, meter in has.items() if had.get(name) == meter and (meter[0].bus is None or meter[0].bus in same)
    )
    touched = {meter.bus for name, (meter, _) in (had | has).items() if meter.bus is not None and name not in kept}
    touched |= {meter.bus for name, (meter, _) in had.items() if meter.bus is not None and name not in kept}
    return Changes(
        frozenset(after.keys() - same),
        frozenset(before.keys() - same),
        kept,
        frozenset((touched | (before.keys() - same)) & before.keys() & after.keys()),
    )


def _meters(file: GatewayFile) -> dict[str, tuple[MeterSettings, object]]:
    """Return the meters that are there, each with the schedule that holds for it."""
    return {meter.id: (meter, meter.schedule or file.schedule) for meter in file.meter if meter.removed is None}
