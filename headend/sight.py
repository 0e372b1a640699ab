"""What one asker may see: meters, readings, events and gaps inside a token's regions, by date."""

from collections.abc import Sequence

import msgspec

from headend.changes import Change
from headend.registry import EVERYWHERE, covers, installation_on
from headend.rows import Row, rows_of
from headend.spans import sight_of
from metering.model import Event, Installation, Skipped
from metering.ports import Reading, Registry


class ChangeRow(msgspec.Struct, frozen=True):
    """One change: exactly one of reading, event and gap is there, as `type` says."""

    change_id: str
    type: str
    reading: Row | None = None
    event: Event | None = None
    gap: Skipped | None = None


class Sight:
    """The view of one asker with these region prefixes at this instant."""

    def __init__(self, registry: Registry, regions: Sequence[str], now: int) -> None:
        self._registry = registry
        self._inside = sight_of(registry, regions)
        self._now = now
        self.everything = covers(regions, EVERYWHERE)

    def sees(self, device: str, instant: int) -> bool:
        """Tell whether a device hung in sight at an instant."""
        return self.everything or self._inside(self._installation(device, instant))

    def installations(self, device: str) -> list[Installation]:
        """Return those installations of a device that lie in sight."""
        return [each for each in self._registry.installations_of(device) if self._inside(each)]

    def row(self, reading: Reading) -> Row:
        """Return a reading's row, by the installation of its time."""
        installation = self._installation(reading.channel.device, reading.measured_at)
        device = self._registry.device(reading.channel.device)
        serial = installation.serial if installation is not None else device.serial if device is not None else ""
        return next(rows_of((reading,), installation, serial))

    def change(self, change: Change) -> ChangeRow | None:
        """Return a change as far as it may be seen, or None."""
        item = change.item
        if isinstance(item, Event):
            return ChangeRow(change.id, "event", event=item) if self.sees(item.device, item.time) else None
        if isinstance(item, Skipped):
            gap = self._gap(item)
            return ChangeRow(change.id, "gap", gap=gap) if gap is not None else None
        if not self.sees(item.channel.device, item.measured_at):
            return None
        # Which version is the current one is the store's to say; the log only knows what came.
        return ChangeRow(change.id, "reading", msgspec.structs.replace(self.row(item), current=msgspec.UNSET))

    def _gap(self, gap: Skipped) -> Skipped | None:
        """Return a gap of the meters in sight. What names no meter is for all."""
        at = gap.first if gap.first is not None else self._now
        seen = {device: count for device, count in gap.readings.items() if self.sees(device, at)}
        return msgspec.structs.replace(gap, readings=seen) if seen or not gap.readings else None

    def _installation(self, device: str, instant: int) -> Installation | None:
        return installation_on(self._registry.installations_of(device), instant)
