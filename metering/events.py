"""The events that this system raises by itself: short name and EndDeviceEventType code of IEC 61968-9.

The code is `type.domain.subdomain.eventOrAction`: type 3 is an electric meter, 10 a collector (our gateway). What a
meter reports of itself comes with the code of its own protocol's mapping.
"""

from typing import NamedTuple


class EventType(NamedTuple):
    """Short name and code of one kind of event."""

    name: str
    code: str


# Clock (domain 36), date and time (116), changed (24).
CLOCK_STEPPED = EventType("gateway-clock-stepped", "10.36.116.24")
# Communication (domain 1): failed (85), normal again (216).
METER_SILENT = EventType("meter-silent", "3.1.0.85")
METER_BACK = EventType("meter-back", "3.1.0.216")
# The collector's own line (domain 19, modem and line): disconnected (68), connected (42).
LINE_DOWN = EventType("line-down", "10.19.0.68")
LINE_UP = EventType("line-up", "10.19.0.42")
# Memory (domain 18): failed (85).
READINGS_DROPPED = EventType("readings-dropped", "10.18.0.85")
# Software (domain 11): started (242), stopped (243).
GATEWAY_STARTED = EventType("gateway-started", "10.11.0.242")
GATEWAY_STOPPED = EventType("gateway-stopped", "10.11.0.243")
# Association (domain 10, subdomain 74): failed (85): another meter answers than the one that was installed.
WRONG_METER = EventType("serial-mismatch", "3.10.74.85")
# Communication (domain 1): error (79): registers of the profile that this unit does not have.
REGISTERS_UNREADABLE = EventType("registers-unreadable", "3.1.0.79")
