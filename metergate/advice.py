"""What to do about a meter that could not be read, in a sentence for the person who stands there. It asks nothing."""

import re
from pathlib import Path
from typing import NamedTuple

from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_access import DlmsAccess
from collector.protocols.dlms.errors import BusyMeterError, WrongClientError
from gateway.dlms_meters import secrets_needed
from gateway.meters import BusMeter
from gateway.settings_bus import SERIAL_BUSES, BusSettings
from gateway.work import WrongMeterError
from metering.errors import AuthError, FrameError, LinkDownError, MeterError, NoAnswerError, RefusedError

# What an endpoint may speak where it does not answer as it should.
_OTHERWISE = {
    "tcp": "the endpoint does not speak Modbus TCP; does it pass RTU frames (kind rtu-over-tcp)?",
    "wrapper": "the endpoint does not speak the wrapper; does it pass HDLC frames (kind hdlc-tcp)?",
    "hdlc-tcp": "the endpoint does not pass HDLC; does it speak the wrapper (kind wrapper)?",
}
# The counter that the meter wants, in the words of a refusal: a refusal of yesterday is known by its words alone.
_WANTED = re.compile(r"(?:invocation counter stands at|it wants at least) (\d+)")
_UNKNOWN_COUNTER = ("counter is not known", "counter is too low")
_SPENT_COUNTER = "counter is at its end"
_TITLE = re.compile(r"system title [0-9a-f]{16}")
_MECHANISM = ("kind of authentication", "must authenticate itself", "no challenge came")
_CHALLENGE = "challenge"
_DECIPHERED = "encrypted"  # of the security that uses the encryption key and no other


class Place(NamedTuple):
    """A meter where it hangs: its bus, and the file that both stand in."""

    meter: BusMeter
    bus: BusSettings
    file: Path

    @property
    def add(self) -> str:
        """Return the command that gives the meter other secrets."""
        return f"metergate key add {self.file} {self.meter.id}"

    @property
    def clock(self) -> str:
        """Return the command that sets the meter's clock."""
        return f"metergate clock {self.file} {self.meter.id} --set"

    @property
    def unlock(self) -> str:
        """Return the command that has the meter asked again with the secrets that it has."""
        return f"metergate key unlock {self.file} {self.meter.id}"


def advice(error: MeterError, place: Place) -> str:
    """Return what to do about a failed read."""
    meter, bus = place.meter, place.bus
    serial = f"{bus.baud} {bus.format}" if isinstance(bus, SERIAL_BUSES) else ""
    wires = f"A and B swapped, termination, {serial}" if serial else "the wiring behind the gateway"
    noise = "noise, two meters with one address, or another baud rate or parity"
    garbled = f"{noise} than {serial}" if serial else _OTHERWISE.get(bus.kind, f"{noise} behind the endpoint")
    access = _access(meter)
    allowed = f", and may client {access.client} read it" if access is not None else ""
    model = f"{meter.profile.maker} {meter.profile.model}{allowed}"
    told: list[tuple[type[MeterError], str]] = [
        (LinkDownError, "the line is at fault, not the meter: check the port, the adapter, the endpoint"),
        (NoAnswerError, f"check the meter's power, its address ({meter.place} in the file), {wires}"),
        (FrameError, garbled),
        (BusyMeterError, "it serves somebody else or is at work by itself: try again in some minutes"),
        (WrongClientError, _on_client(meter)),
        (RefusedError, f"the meter is there and says no: is it really a {model}?"),
        (AuthError, on_refused_secrets(str(error), place)),
        (WrongMeterError, "another meter hangs there: correct its address or serial in the file"),
    ]
    return next((text for kind, text in told if isinstance(error, kind)), "try again later")


def on_refused_secrets(words: str, place: Place) -> str:
    """Return what to do where a meter refused keys, password or counter; `words` are those of the refusal."""
    wanted = _WANTED.search(words)
    if wanted:
        return f"if that is true, say where it goes on: {place.add} --counter {wanted[1]}"
    if any(counter in words for counter in _UNKNOWN_COUNTER):
        return on_unknown_counter(place)
    if _SPENT_COUNTER in words:
        return f"have a new encryption key put into the meter, and store it: {place.add} --encryption SECRET"
    if _TITLE.search(words):
        return f"another meter hangs there, or correct system_title in the file; then {place.unlock}"
    access = _access(place.meter)
    if any(mechanism in words for mechanism in _MECHANISM):
        said = f" ({access.authentication} for client {access.client})" if access is not None else ""
        return f"correct authentication or client in the file{said}; then {place.unlock}"
    which = _suspects(words, place.meter)
    options = " ".join(f"--{name} SECRET" for name in which)
    client = f", or client {access.client} is not the one that it belongs to" if access is not None else ""
    named = " or ".join(name if name == "password" else f"{name} key" for name in which)
    return f"the {named} is wrong{client}: {place.add} {options}; it is asked again once that changes, not before"


def on_unknown_counter(place: Place) -> str:
    """Return what to do where nobody knows which invocation counter comes next."""
    return f"say one that was never used with this key: {place.add} --counter N"


def _suspects(words: str, meter: BusMeter) -> tuple[str, ...]:
    """Return the names of the secrets that may be the wrong one."""
    access = _access(meter)
    if access is None:
        return ("password",)
    needed = secrets_needed(access)
    if access.security == _DECIPHERED and {"encryption", "authentication"} <= set(needed):
        # The association was deciphered with the first alone; the challenge is answered with both.
        return ("authentication",) if _CHALLENGE in words else ("encryption",)
    if _CHALLENGE in words and "password" in needed:
        return ("password",)
    keys = tuple(name for name in needed if name != "password")
    return keys or needed or ("password",)


def _on_client(meter: BusMeter) -> str:
    access = _access(meter)
    if access is None:
        return "correct client in the file"
    said = f"client {access.client}, server {access.server}, security {access.security}"
    return f"correct client, server, authentication or security in the file ({said})"


def _access(meter: BusMeter) -> DlmsAccess | None:
    return meter.driver.access if isinstance(meter.driver, DlmsDriver) else None
