"""Tariff calendars and script tables as values (classes 20 and 9): when a meter does what. Nothing is carried out."""

from typing import ClassVar, Self

import msgspec

from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.clock import DateTime
from collector.protocols.dlms.object_parts import (
    CosemValue,
    ScriptRef,
    Values,
    items_of,
    number_of,
    obis_in,
    octets_of,
    parts_of,
    take,
    time_of,
)
from collector.protocols.dlms.references import Attribute, Method
from metering.errors import FrameError

# --- script table (class 9) -------------------------------------------------------------------------------------------


class ScriptAction(msgspec.Struct, frozen=True):
    """One step of a script: an attribute that is written, or a method that is carried out, with its value."""

    target: Attribute | Method
    value: Data


class ScriptTable(CosemValue, frozen=True):
    """The scripts of a table by their number."""

    CLASS_ID: ClassVar[int] = 9
    ATTRIBUTES: ClassVar[tuple[int, ...]] = (2,)

    scripts: dict[int, tuple[ScriptAction, ...]]

    @classmethod
    def of(cls, values: Values) -> Self:
        """Make it from its attributes' values. Raises `FrameError`."""
        found = {}
        for script in items_of(take(values, 2), "scripts"):
            number, actions = parts_of(script, "a script", 2)[:2]
            found[number_of(number, "script number")] = tuple(map(_action, items_of(actions, "a script's actions")))
        return cls(found)


def _action(data: Data) -> ScriptAction:
    service, class_id, name, index, value = parts_of(data, "an action of a script", 5)[:5]
    place = number_of(class_id, "class"), obis_in(name, "name"), number_of(index, "index")
    return ScriptAction(Attribute(*place) if service.value == 1 else Method(*place), value)


# --- activity calendar (class 20) -------------------------------------------------------------------------------------


class Season(msgspec.Struct, frozen=True):
    """A season of a tariff calendar: from when (parts may be not specified), and by which week."""

    name: bytes
    begin: DateTime
    week: bytes


class Switching(msgspec.Struct, frozen=True):
    """A switching of a day: hour, minute, second (None: any), and the script that is run."""

    hour: int | None
    minute: int | None
    second: int | None
    script: ScriptRef


class ActivityCalendar(CosemValue, frozen=True):
    """A tariff calendar: `weeks` have seven days by number, Monday first, and `days` their switchings.

    The passive calendar becomes active at `activation`.
    """

    CLASS_ID: ClassVar[int] = 20
    ATTRIBUTES: ClassVar[tuple[int, ...]] = (2, 3, 4, 5, 6, 7, 8, 9, 10)
    OPTIONAL: ClassVar[frozenset[int]] = frozenset({6, 7, 8, 9, 10})

    name: bytes
    seasons: tuple[Season, ...]
    weeks: dict[bytes, tuple[int, ...]]
    days: dict[int, tuple[Switching, ...]]
    passive: "ActivityCalendar | None" = None
    activation: DateTime | None = None

    @classmethod
    def of(cls, values: Values) -> Self:
        """Make it from its attributes' values. Raises `FrameError`."""
        passive = cls(*_calendar(values, 6)) if all(number in values for number in (6, 7, 8, 9)) else None
        activation = time_of(values[10], "activation time") if 10 in values else None
        return cls(*_calendar(values, 2), passive, activation)


def _calendar(
    values: Values, first: int
) -> tuple[bytes, tuple[Season, ...], dict[bytes, tuple[int, ...]], dict[int, tuple[Switching, ...]]]:
    seasons = []
    for item in items_of(take(values, first + 1), "seasons"):
        name, begin, week = parts_of(item, "a season", 3)[:3]
        seasons.append(Season(octets_of(name, "season"), time_of(begin, "season's begin"), octets_of(week, "week")))
    weeks = {}
    for item in items_of(take(values, first + 2), "weeks"):
        name, *days = parts_of(item, "a week", 8)[:8]
        weeks[octets_of(name, "week")] = tuple(number_of(day, "day") for day in days)
    found = {}
    for item in items_of(take(values, first + 3), "days"):
        number, actions = parts_of(item, "a day", 2)[:2]
        found[number_of(number, "day")] = tuple(map(_switching, items_of(actions, "a day's actions")))
    return octets_of(take(values, first), "calendar name"), tuple(seasons), weeks, found


def _switching(data: Data) -> Switching:
    begin, table, selector = parts_of(data, "a day's action", 3)[:3]
    time = octets_of(begin, "a day's action time")
    if len(time) != 4:
        raise FrameError("a time of day has 4 bytes")
    hour, minute, second = (None if octet == 0xFF else octet for octet in time[:3])
    script = ScriptRef(obis_in(table, "script table"), number_of(selector, "selector"))
    return Switching(hour, minute, second, script)
