"""The objects of a simulated meter that tell about itself: association, security, addresses, calendar. Plain tables."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from collector.protocols.dlms.acse import DLMS_VERSION
from collector.protocols.dlms.axdr import Data, Tag, array, bits, enum_, i8, octets, structure, u8, u16, u32
from collector.protocols.dlms.ciphering import unwrap_key
from collector.protocols.dlms.references import DataAccessResult, logical_name
from metering.errors import AuthError, FrameError
from simulators.dlms_demand import DAY_BEGINS, DAY_ENDS
from simulators.dlms_objects import Ask, CosemObject, Denied, Objects, Role, data, typed
from simulators.dlms_security import MANAGEMENT, PUBLIC, Security

if TYPE_CHECKING:
    from simulators.dlms_meter import DlmsMeter

ASSOCIATION = "0-0:40.0.0*255"
PORT = 4059
_CONTEXT_ARC = bytes.fromhex("60857405080100")[:-1]
_MECHANISM_ARC = bytes.fromhex("60857405080200")[:-1]
# The ids of key_transfer (class 64 method 2).
_KEYS = {0: "encryption", 1: "broadcast", 2: "authentication", 3: "master"}


def association(objects: Callable[[], Objects], security: Security) -> CosemObject:
    """Return the current association (class 15): 2 object_list, 3 partners, 4-6 names, 8 status, 9 security setup."""

    def listed(ask: Ask) -> Data:
        return array(*(found.listed(ask.role) for found in objects().values()))

    def mechanism(ask: Ask) -> Data:
        return octets(_MECHANISM_ARC + bytes((security.clients[ask.client].mechanism,)))

    def context(ask: Ask) -> Data:
        return octets(_CONTEXT_ARC + bytes((max(security.clients[ask.client].contexts),)))

    settings = security.settings
    services = f"{int(settings.conformance):024b}"
    information = structure(
        bits(services), u16(settings.max_pdu), u16(settings.max_pdu), u8(DLMS_VERSION), i8(0), octets(b"")
    )
    return CosemObject(
        15,
        ASSOCIATION,
        {
            2: listed,
            3: lambda ask: structure(i8(ask.client), u16(1)),
            4: context,
            5: information,
            6: mechanism,
            8: enum_(2),  # associated
            9: octets(logical_name("0-0:43.0.0*255")),
        },
        # The secret can be written and never read.
        {7: lambda _, __: _deny(DataAccessResult.READ_WRITE_DENIED)},
        version=1,
        least=Role.PUBLIC,
    )


def _deny(result: DataAccessResult) -> None:
    raise Denied(result)


def security_setup(security: Security) -> CosemObject:
    """Return the security setup (class 64): 2 policy, 3 suite, 4 client title, 5 server title; 2 key_transfer."""

    def transfer(_: Ask, parameter: Data | None) -> None:
        found: dict[str, bytes] = {}
        for part in typed(parameter, Tag.ARRAY).value:
            pair = typed(part, Tag.STRUCTURE).value
            name = _KEYS.get(typed(pair[0], Tag.ENUM).value) if len(pair) == 2 else None
            if name is None:
                raise Denied(DataAccessResult.TYPE_UNMATCHED)
            try:
                found[name] = unwrap_key(security.keys.master, typed(pair[1], Tag.OCTET_STRING).value)
            except (AuthError, FrameError):
                raise Denied(DataAccessResult.OTHER_REASON) from None
        for name, key in found.items():
            setattr(security.keys, name, key)
        if found:
            security.expected.clear()  # a new key's counters begin anew

    return CosemObject(
        64,
        "0-0:43.0.0*255",
        {2: _policy(security), 3: enum_(0), 4: octets(b""), 5: octets(security.title)},
        act={2: transfer},
        version=1,
    )


def _policy(security: Security) -> Data:
    management = security.clients.get(MANAGEMENT)
    # Version 1: bits 2, 3 authenticated and encrypted requests, bits 5, 6 responses.
    asked = (management.policy if management else 0) >> 4
    return enum_(asked << 2 | asked << 5)


def counters(security: Security) -> list[CosemObject]:
    """Return the invocation counters (0-0:43.1.x*255), x 0 the management client's, otherwise the client's address.

    Each shows the lowest value that the meter takes.
    """

    def shown(client: int) -> Callable[[Ask], Data]:
        return lambda _: u32(security.expected.get(client, 0))

    found = []
    for client in security.clients:
        if client != PUBLIC:
            number = 0 if client == MANAGEMENT else client
            found.append(data(f"0-0:43.1.{number}*255", shown(client), least=Role.PUBLIC))
    return found


def addresses() -> list[CosemObject]:
    """Return the TCP-UDP setup (class 41) and the IPv4 setup (class 42)."""
    ip = logical_name("0-0:25.1.0*255")
    link = logical_name("0-0:25.2.0*255")
    tcp = {2: u16(PORT), 3: octets(ip), 4: u16(1024), 5: u8(4), 6: u16(180)}
    ipv4 = {2: octets(link), 3: u32(0x7F000001), 4: array(), 5: array(), 6: u32(0xFF000000), 7: u32(0)}
    ipv4 |= {8: Data(Tag.BOOLEAN, value=False), 9: u32(0), 10: u32(0)}
    return [
        CosemObject(41, "0-0:25.0.0*255", dict(tcp.items())),
        CosemObject(42, "0-0:25.1.0*255", dict(ipv4.items())),
    ]


def calendar() -> CosemObject:
    """Return the activity calendar (class 20): one season, one week, a day with two tariffs; no passive one."""
    every = b"\xff" * 12
    season = structure(octets(b"all"), octets(every), octets(b"week"))
    week = structure(octets(b"week"), *(u8(1) for _ in range(7)))
    tariffs = logical_name("0-0:10.0.100*255")
    hours = ((0, 2), (DAY_BEGINS, 1), (DAY_ENDS, 2))
    actions = [structure(octets(bytes((hour, 0, 0, 0))), octets(tariffs), u16(number)) for hour, number in hours]
    day = structure(u8(1), array(*actions))
    empty = {6: octets(b""), 7: array(), 8: array(), 9: array(), 10: octets(every)}
    active = {2: octets(b"two rates"), 3: array(season), 4: array(week), 5: array(day)}
    return CosemObject(20, "0-0:13.0.0*255", {**active, **empty})


def identity(meter: "DlmsMeter") -> list[CosemObject]:
    """Return the data objects that say which meter this is."""
    return [
        data("0-0:42.0.0*255", octets(meter.device_name), least=Role.PUBLIC),
        data("0-0:96.1.0*255", lambda _: octets(meter.meter.serial.encode()), least=Role.PUBLIC),
        data("1-0:0.2.0*255", octets(meter.settings.firmware.encode()), least=Role.PUBLIC),
        data("0-0:97.97.0*255", u8(0)),
        data("0-0:97.98.0*255", u32(0)),
    ]
