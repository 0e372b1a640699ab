"""Registry entries, events and changes as they are answered: instants become RFC 3339 text. Rows are ready already."""

from api import schemas
from headend.service import Found
from headend.sight import ChangeRow
from metering.model import Event, Installation, MeterPoint, Skipped
from metering.timing import to_rfc3339


def found_view(found: Found) -> schemas.PointView | schemas.DeviceView:
    """Return a point or a device with its installations."""
    installations = [_installation(each) for each in found.installations]
    item = found.item
    if isinstance(item, MeterPoint):
        return schemas.PointView(item.id, item.region, item.zone, item.name, item.customer, installations)
    return schemas.DeviceView(
        item.id, item.serial, item.profile, item.gateway, item.maker, item.model, item.memory_days, installations
    )


def event_view(event: Event) -> schemas.EventView:
    """Return an event."""
    return schemas.EventView(
        event.id,
        event.device,
        to_rfc3339(event.time),
        event.code,
        event.name,
        to_rfc3339(event.received_at),
        event.detail,
    )


def change_view(change: ChangeRow) -> schemas.ChangeView:
    """Return a change."""
    return schemas.ChangeView(
        change.change_id,
        change.type,
        change.reading,
        event_view(change.event) if change.event is not None else None,
        _gap(change.gap) if change.gap is not None else None,
    )


def _gap(gap: Skipped) -> schemas.GapView:
    return schemas.GapView(gap.from_seq, gap.to_seq, gap.reason, gap.readings, _time(gap.first), _time(gap.last))


def _time(instant: int | None) -> str | None:
    return to_rfc3339(instant) if instant is not None else None


def _installation(each: Installation) -> schemas.InstallationView:
    return schemas.InstallationView(
        each.point,
        each.device,
        each.serial,
        to_rfc3339(each.valid_from),
        _time(each.valid_to),
        each.initial,
        each.removal,
        each.ct_ratio,
        each.pt_ratio,
        each.registers,
    )
