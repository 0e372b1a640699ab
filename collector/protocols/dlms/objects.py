"""COSEM objects that an AMI reads besides numbers, as values: what a meter has, its switch, limiter, push, security.

Each type says its class and the attributes it is made of (Blue Book part 2), and `of` makes it from their values.
Nothing is written or carried out here.
"""

from enum import IntEnum
from typing import ClassVar, Self

import msgspec

from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.clock import DateTime
from collector.protocols.dlms.object_parts import (
    CosemValue,
    ScriptRef,
    Values,
    flag_of,
    items_of,
    number_of,
    obis_in,
    octets_of,
    parts_of,
    script_ref,
    take,
    time_of,
)
from collector.protocols.dlms.references import Attribute, CaptureObject
from metering.errors import FrameError

# --- association LN (class 15): what there is -------------------------------------------------------------------------


class ListedObject(msgspec.Struct, frozen=True):
    """One object of a meter and the rights of this association: access mode by attribute and by method.

    The modes are those of the association's version (Blue Book 4.4.4): in version 0 and 1 of attributes 0 is none, 1
    read, 2 write, 3 both, each with 3 more where the message must be authenticated.
    """

    class_id: int
    version: int
    obis: str
    attributes: dict[int, int]
    methods: dict[int, int]

    def allows(self, attribute: int) -> bool:
        """Tell whether the attribute has any access at all."""
        return self.attributes.get(attribute, 0) != 0


def parse_object_list(data: Data) -> tuple[ListedObject, ...]:
    """Return the objects of attribute 2 of an association LN. Raises `FrameError`."""
    return tuple(_listed(item) for item in items_of(data, "object_list"))


def _listed(item: Data) -> ListedObject:
    class_id, version, name, rights = parts_of(item, "an object of the list", 4)[:4]
    attributes, methods = parts_of(rights, "access rights", 2)[:2]
    return ListedObject(
        number_of(class_id, "class"),
        number_of(version, "version"),
        obis_in(name, "logical name"),
        _rights(attributes, "attribute access"),
        _rights(methods, "method access"),
    )


def _rights(data: Data, what: str) -> dict[int, int]:
    found = {}
    for item in items_of(data, what):
        parts = parts_of(item, what, 2)
        found[number_of(parts[0], what)] = int(
            flag_of(parts[1], what) if parts[1].tag is Tag.BOOLEAN else parts[1].value
        )
    return found


# --- disconnect control (class 70) and limiter (class 71) -------------------------------------------------------------


class ControlState(IntEnum):
    """What the switch is meant to be (control_state)."""

    DISCONNECTED = 0
    CONNECTED = 1
    READY = 2  # a person must reconnect at the meter


class DisconnectControl(CosemValue, frozen=True):
    """The supply switch. `output` is its contact (True: closed), `mode` 0 to 6 says who may move it and how."""

    CLASS_ID: ClassVar[int] = 70
    ATTRIBUTES: ClassVar[tuple[int, ...]] = (2, 3, 4)

    output: bool
    state: ControlState
    mode: int

    @classmethod
    def of(cls, values: Values) -> Self:
        """Make it from its attributes' values. Raises `FrameError`."""
        state = number_of(take(values, 3), "control_state")
        mode = number_of(take(values, 4), "control_mode")
        if state not in tuple(ControlState) or not 0 <= mode <= 6:
            raise FrameError(f"control_state {state} or control_mode {mode} is none that the standard knows")
        return cls(flag_of(take(values, 2), "output_state"), ControlState(state), mode)


class EmergencyProfile(msgspec.Struct, frozen=True):
    """When a limiter's emergency threshold counts: group, from when, and for how long (s)."""

    group: int
    begin: DateTime
    seconds: int


class Limiter(CosemValue, frozen=True):
    """What is watched, the thresholds (in the watched value's own digits), and what is done beyond them."""

    CLASS_ID: ClassVar[int] = 71
    ATTRIBUTES: ClassVar[tuple[int, ...]] = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    OPTIONAL: ClassVar[frozenset[int]] = frozenset({8, 9, 10})

    watched: Attribute
    threshold: int
    normal: int
    emergency: int
    over_s: int
    under_s: int
    emergency_profile: EmergencyProfile | None
    groups: tuple[int, ...]
    in_emergency: bool
    over: ScriptRef
    under: ScriptRef

    @classmethod
    def of(cls, values: Values) -> Self:
        """Make it from its attributes' values. Raises `FrameError`."""
        watched = parts_of(take(values, 2), "monitored_value", 3)
        over, under = parts_of(take(values, 11), "actions", 2)[:2]
        groups = values.get(9)
        return cls(
            Attribute(number_of(watched[0], "class"), obis_in(watched[1], "name"), number_of(watched[2], "attribute")),
            number_of(take(values, 3), "threshold_active"),
            number_of(take(values, 4), "threshold_normal"),
            number_of(take(values, 5), "threshold_emergency"),
            number_of(take(values, 6), "min_over_threshold_duration"),
            number_of(take(values, 7), "min_under_threshold_duration"),
            _emergency(values.get(8)),
            () if groups is None else tuple(number_of(item, "group") for item in items_of(groups, "groups")),
            flag_of(values[10], "emergency_profile_active") if 10 in values else False,
            script_ref(over),
            script_ref(under),
        )


def _emergency(data: Data | None) -> EmergencyProfile | None:
    if data is None or data.tag is Tag.NULL or not data.value:
        return None
    group, begin, seconds = parts_of(data, "emergency_profile", 3)[:3]
    return EmergencyProfile(
        number_of(group, "group"), time_of(begin, "activation time"), number_of(seconds, "duration")
    )


# --- push setup (class 40) and security setup (class 64) --------------------------------------------------------------


def parse_push_objects(data: Data) -> tuple[CaptureObject, ...]:
    """Return the object list of a push setup (attribute 2). Raises `FrameError`.

    Later versions put a restriction and columns behind the four parts of a capture object.
    """
    items = (parts_of(item, "an object that is pushed", 4)[:4] for item in items_of(data, "push_object_list"))
    return tuple(CaptureObject.of(Data(Tag.STRUCTURE, item)) for item in items)


class PushSetup(CosemValue, frozen=True):
    """What a meter sends by itself, where to, and how often it tries."""

    CLASS_ID: ClassVar[int] = 40
    ATTRIBUTES: ClassVar[tuple[int, ...]] = (2, 3, 4, 5, 6, 7)
    OPTIONAL: ClassVar[frozenset[int]] = frozenset({4, 5, 6, 7})

    objects: tuple[CaptureObject, ...]
    transport: int
    destination: bytes
    message: int
    windows: tuple[tuple[DateTime, DateTime], ...] = ()
    randomisation_s: int = 0
    retries: int = 0

    @classmethod
    def of(cls, values: Values) -> Self:
        """Make it from its attributes' values. Raises `FrameError`."""
        transport, destination, message = parts_of(take(values, 3), "send_destination_and_method", 3)[:3]
        windows = [parts_of(item, "a window", 2) for item in items_of(values[4], "windows")] if 4 in values else []
        return cls(
            parse_push_objects(take(values, 2)),
            number_of(transport, "transport"),
            octets_of(destination, "destination"),
            number_of(message, "message"),
            tuple((time_of(begin, "window"), time_of(end, "window")) for begin, end, *_ in windows),
            number_of(values[5], "randomisation") if 5 in values else 0,
            number_of(values[6], "retries") if 6 in values else 0,
        )


class SecuritySetup(CosemValue, frozen=True):
    """What protection a meter asks for. `policy` is as its version counts it; titles of 8 bytes or empty. No keys."""

    CLASS_ID: ClassVar[int] = 64
    ATTRIBUTES: ClassVar[tuple[int, ...]] = (2, 3, 4, 5)
    OPTIONAL: ClassVar[frozenset[int]] = frozenset({4, 5})

    policy: int
    suite: int
    client_title: bytes = b""
    server_title: bytes = b""

    @classmethod
    def of(cls, values: Values) -> Self:
        """Make it from its attributes' values. Raises `FrameError`."""
        titles = [octets_of(values[number], "system title") if number in values else b"" for number in (4, 5)]
        return cls(number_of(take(values, 2), "policy"), number_of(take(values, 3), "suite"), *titles)
