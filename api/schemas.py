"""The shapes of the answers as structs, and their JSON schemas for OpenAPI. Values are put in by `api.views`."""

from typing import Annotated, Any

import msgspec

from api.fleet_views import FLEET_ANSWERS
from api.problems import Problem
from api.register_views import REGISTER_ANSWERS
from api.render import ReadingsPage
from headend.configurations import ConfigurationView
from headend.key_office import KeyView
from headend.kpi.views import CollectionRow, GapRow
from headend.rows import Row
from headend.supply.views import CommandsMade, CommandsPage, CommandView, SupplyView
from trust.sheet import Sheet

_TEMPLATE = "#/components/schemas/{name}"


class InstallationView(msgspec.Struct):
    """A device at a meter point for a time, half-open. Ratios and registers are exact decimal strings."""

    point: str
    device: str
    serial: str
    valid_from: str
    valid_to: str | None
    initial: dict[str, str]
    removal: dict[str, str]
    ct_ratio: str
    pt_ratio: str
    registers: str


class PointView(msgspec.Struct):
    """A meter point with all its installations."""

    id: str
    region: str
    zone: str
    name: str
    customer: str
    installations: list[InstallationView]


class DeviceView(msgspec.Struct):
    """A device with those of its installations that the token may see."""

    id: str
    serial: str
    profile: str
    gateway: str
    maker: str
    model: str
    memory_days: int
    installations: list[InstallationView]


class PointsPage(msgspec.Struct):
    """A page of meter points. `next` is the cursor of the next one, null on the last."""

    meter_points: list[PointView]
    next: str | None


class DevicesPage(msgspec.Struct):
    """A page of devices."""

    devices: list[DeviceView]
    next: str | None


class LatestPage(msgspec.Struct):
    """A page of latest values."""

    readings: list[Row]
    next: str | None


class EventView(msgspec.Struct):
    """An event. `code` is the EndDeviceEventType of IEC 61968-9."""

    id: str
    device: str
    time: str
    code: str
    name: str
    received_at: str
    detail: dict[str, str]


class EventsPage(msgspec.Struct):
    """A page of events."""

    events: list[EventView]
    next: str | None


class AuditView(msgspec.Struct):
    """An entry of the audit. `hash` is over `prev` and all its fields; `at_us` is `at` as it was hashed."""

    seq: int
    at: str
    at_us: int
    actor: str
    kind: str
    subject: str
    region: str
    body: dict[str, Any]
    prev: str
    hash: str


class AuditPage(msgspec.Struct):
    """A page of the audit."""

    entries: list[AuditView]
    next: str | None


class GapView(msgspec.Struct):
    """Records of the log that will never come: evicted, quarantined or lost, with the readings gone for each device."""

    from_seq: int
    to_seq: int
    reason: str
    readings: dict[str, int]
    first: str | None
    last: str | None


class ChangeView(msgspec.Struct):
    """One change. `type` names which of `reading`, `event` and `gap` is there; the others are null."""

    change_id: str
    type: str
    reading: Row | None
    event: EventView | None
    gap: GapView | None


class ChangesPage(msgspec.Struct):
    """A page of changes. `next` is always there: keep it and come back. `more`: there is more already."""

    changes: list[ChangeView]
    next: str
    more: bool


class ReadNow(msgspec.Struct):
    """What a meter said when it was asked."""

    device: str
    readings: list[Row]


class ClockSet(msgspec.Struct):
    """A meter's clock before and after it was set: seconds that it was ahead (negative: behind)."""

    device: str
    offset_before_s: float
    offset_after_s: float
    set_at: str


class KeysPut(msgspec.Struct):
    """A device's keys, wrapped for a gateway: what `metergate key wrap` writes. `bundle` is base64."""

    gateway: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    version: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    bundle: Annotated[str, msgspec.Meta(max_length=5464)]


class CollectionPage(msgspec.Struct):
    """A page of figures. All days before `judged_until` (null: none yet) are judged."""

    collection: list[CollectionRow]
    judged_until: str | None
    on_time_s: int
    next: str | None


class GapsPage(msgspec.Struct):
    """A page of gaps."""

    gaps: list[GapRow]
    next: str | None


class Health(msgspec.Struct):
    """The process lives."""

    status: str


ANSWERS = (
    *FLEET_ANSWERS,
    *REGISTER_ANSWERS,
    PointView,
    DeviceView,
    PointsPage,
    DevicesPage,
    ReadingsPage,
    LatestPage,
    EventsPage,
    AuditPage,
    ChangesPage,
    ReadNow,
    ClockSet,
    CollectionPage,
    KeyView,
    ConfigurationView,
    KeysPut,
    GapsPage,
    CommandView,
    CommandsMade,
    CommandsPage,
    SupplyView,
    Sheet,
    Health,
)


def components() -> dict[str, Any]:
    """Return the JSON schemas of all answers by name."""
    _, found = msgspec.json.schema_components(ANSWERS, ref_template=_TEMPLATE)
    return {**found, "Problem": _problem(found)}


def _problem(found: dict[str, Any]) -> dict[str, Any]:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    found.update(schema.pop("$defs", {}))
    return schema


def json_answer(of: type[msgspec.Struct], description: str, example: object = None) -> dict[str, Any]:
    """Return the OpenAPI entry of a JSON answer."""
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{of.__name__}"}}
    if example is not None:
        content["example"] = example
    return {"description": description, "content": {"application/json": content}}
