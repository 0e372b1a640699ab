"""The shared words for events: short name and EndDeviceEventType code of IEC 61968-9. Not what each protocol maps.

The code is `type.domain.subdomain.eventOrAction`: type 3 is an electric meter, 10 a collector (our gateway). Below are
first the events that this system raises by itself, then those that meters report of themselves.
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
# Between gateway and head-end: a gateway sent what is not its own, what lies in the future, or what cannot be read; its
# log was replaced or put back; the head-end does not know it or its version. No action is agreed on for these.
READINGS_REFUSED = EventType("readings-refused", "10.12.0.0")
READINGS_FROM_FUTURE = EventType("readings-from-future", "10.36.0.0")
READINGS_RELEASED = EventType("readings-released", "10.36.0.24")  # held back as of the future, and given free
READINGS_RETIMED = EventType("readings-retimed", "10.36.116.24")  # and their stamps corrected
BATCH_QUARANTINED = EventType("batch-quarantined", "10.18.0.0")
LOG_REPLACED = EventType("gateway-log-replaced", "10.18.0.24")
VERSION_REFUSED = EventType("version-refused", "10.11.0.0")
SECOND_GATEWAY = EventType("second-gateway-refused", "10.12.0.0")
# Supply control (domain 31): a command that the gateway refused; restores that wait their turn. No action is agreed on.
SUPPLY_REFUSED = EventType("supply-command-refused", "10.31.0.0")
RESTORES_STAGGERED = EventType("restores-staggered", "3.31.0.0")
# Association (domain 10, subdomain 74): failed (85): another meter answers than the one that was installed.
WRONG_METER = EventType("serial-mismatch", "3.10.74.85")
# Security (domain 12): the meter refused its key or password; no action is agreed on.
KEY_REFUSED = EventType("key-refused", "3.12.0.0")
# Security: its keys are not used for now (they are not here, or their counters not known to be safe), and used again.
KEYS_HALTED = EventType("keys-halted", "3.12.32.0")
KEYS_IN_USE = EventType("keys-in-use", "3.12.32.216")
# Security, at the collector: wrapped keys were refused; the disk was put back, so that all counters are halted.
WRAPPED_KEYS_REFUSED = EventType("wrapped-keys-refused", "10.12.32.0")
COUNTERS_HALTED = EventType("counters-halted", "10.12.32.85")
# Communication (domain 1): error (79): registers of the profile that this unit does not have.
REGISTERS_UNREADABLE = EventType("registers-unreadable", "3.1.0.79")
# Load profile (domain 16): lost (47); no action is agreed on for a difference.
INTERVALS_LOST = EventType("intervals-lost", "3.16.0.47")
PROFILE_DIFFERS = EventType("profile-differs", "3.16.0.0")
# Power (domain 26): intervals without supply, as their meter told.
NO_SUPPLY = EventType("no-supply", "3.26.0.0")
# Clock (domain 36): limit exceeded (139), set by this system (24, subdomain date and time).
METER_CLOCK_OFF = EventType("meter-clock-off", "3.36.0.139")
METER_CLOCK_CORRECTED = EventType("meter-clock-corrected", "3.36.116.24")

# --- what meters report of themselves --------------------------------------------------------------------------------
#
# Two public sources (a Honeywell mapping of IEC 61968-9 and the lists of two American utilities and meter firmwares)
# agree on domain and action of these; where they name another subdomain that is said.
POWER_DOWN = EventType("power-down", "3.26.0.85")  # one has subdomain 38
POWER_UP = EventType("power-up", "3.26.0.216")
TERMINAL_COVER_OPENED = EventType("terminal-cover-opened", "3.12.29.212")
COVER_OPENED = EventType("cover-opened", "3.12.141.212")  # 212 is agreed, 141 stands in one
REVERSE_RUN = EventType("reverse-run", "3.12.93.219")  # one has subdomain 6
TAMPER = EventType("tamper", "3.12.0.257")  # subdomains 43 and 1
CLOCK_SET = EventType("clock-set", "3.36.116.24")
CLOCK_ADJUSTED = EventType("clock-adjusted", "3.36.0.24")  # changed (24) is agreed
CLOCK_INVALID = EventType("clock-invalid", "3.36.0.79")
DEMAND_RESET = EventType("demand-reset", "3.8.0.215")
PROGRAMMED = EventType("programmed", "3.7.0.24")  # subdomains 31 and 83
BATTERY_LOW = EventType("battery-low", "3.2.22.150")
METER_ERROR = EventType("meter-error", "3.0.0.79")
# For these there is one source or none: domain (and subdomain where one has it), with action 0. Where two of them share
# a code, `Event.detail` carries the meter's own code: by it the two of one second stay two.
TERMINAL_COVER_CLOSED = EventType("terminal-cover-closed", "3.12.29.0")
COVER_CLOSED = EventType("cover-closed", "3.12.141.0")
MAGNET_DETECTED = EventType("magnet-detected", "3.12.66.0")
MAGNET_GONE = EventType("magnet-gone", "3.12.66.0")
REVERSE_RUN_ENDED = EventType("reverse-run-ended", "3.12.93.0")
RELAY_OPENED = EventType("relay-opened", "3.31.0.0")
RELAY_CLOSED = EventType("relay-closed", "3.31.0.0")
RELAY_READY = EventType("relay-ready", "3.31.0.0")  # ready for reconnection by hand
TARIFF_CHANGED = EventType("tariff-changed", "3.20.0.0")
PHASE_FAILED = EventType("phase-failed", "3.26.25.0")
PHASE_BACK = EventType("phase-back", "3.26.25.0")
METER_CLEARED = EventType("meter-cleared", "3.18.0.0")
METER_OTHER = EventType("meter-event", "3.0.0.0")  # what has no word of its own here: `detail` says it
