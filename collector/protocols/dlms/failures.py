"""The APDUs with which a meter refuses service, in words (IEC 62056-5-3). What follows for a session is not here."""

from collector.protocols.dlms.cursor import Cursor
from collector.protocols.dlms.invoke import Apdu
from metering.errors import FrameError

EXCEPTION_RESPONSE = 0xD8
CONFIRMED_SERVICE_ERROR = 0x0E

# Exception-response.
NOT_ALLOWED, UNKNOWN_SERVICE = 1, 2
NOT_POSSIBLE, NOT_SUPPORTED, OTHER_REASON, PDU_TOO_LONG, DECIPHERING_ERROR, COUNTER_ERROR = 1, 2, 3, 4, 5, 6
_STATES = {NOT_ALLOWED: "service not allowed", UNKNOWN_SERVICE: "service unknown"}
_SERVICES = {
    NOT_POSSIBLE: "operation not possible",
    NOT_SUPPORTED: "service not supported",
    OTHER_REASON: "other reason",
    PDU_TOO_LONG: "the request is longer than the meter takes",
    DECIPHERING_ERROR: "the meter cannot decipher the request",
    COUNTER_ERROR: "the invocation counter is too low",
}

# Confirmed-service-error: the service that failed, and kinds of ServiceError.
INITIATE_ERROR = 1
APPLICATION_REFERENCE, HARDWARE_RESOURCE, VDE_STATE, SERVICE, DEFINITION, ACCESS, INITIATE = range(7)
_FAILED_SERVICES = {
    INITIATE_ERROR: "initiate",
    2: "get status",
    3: "get name list",
    4: "get variable attribute",
    5: "read",
    6: "write",
    7: "get data set attribute",
    8: "get TI attribute",
    9: "change scope",
    10: "start",
    11: "stop",
    12: "resume",
    13: "make usable",
    14: "initiate load",
    15: "load segment",
    16: "terminate load",
    17: "initiate upload",
    18: "upload segment",
    19: "terminate upload",
}
_ERRORS = {
    APPLICATION_REFERENCE: (
        "application reference",
        (
            "other",
            "time elapsed",
            "application unreachable",
            "invalid reference",
            "unsupported application",
            "provider communication error",
            "deciphering error",
        ),
    ),
    HARDWARE_RESOURCE: (
        "hardware resource",
        ("other", "memory unavailable", "processor unavailable", "mass storage unavailable", "resource unavailable"),
    ),
    VDE_STATE: ("device state", ("other", "no DLMS context", "loading data set", "no change", "inoperable")),
    SERVICE: ("service", ("other", "PDU size", "service unsupported")),
    DEFINITION: ("definition", ("other", "object undefined", "class inconsistent", "attribute inconsistent")),
    ACCESS: (
        "access",
        ("other", "scope of access violated", "object access violated", "hardware fault", "object unavailable"),
    ),
    INITIATE: (
        "initiate",
        ("other", "DLMS version too low", "incompatible conformance", "PDU size too short", "refused by the VDE"),
    ),
    7: (
        "load data set",
        (
            "other",
            "primitive out of sequence",
            "not loadable",
            "data set size too large",
            "not awaited segment",
            "interpretation failure",
            "storage failure",
            "data set not ready",
        ),
    ),
    9: ("task", ("other", "no remote control", "TI stopped", "TI running", "TI unusable")),
}


class ExceptionResponse(Apdu, frozen=True):
    """The meter could not serve a request at all. `expected`: the lowest invocation counter that it takes."""

    state: int
    service: int
    expected: int | None = None

    @property
    def words(self) -> str:
        """Return what it means to a field engineer."""
        state = _STATES.get(self.state, f"state {self.state}")
        reason = _SERVICES.get(self.service, f"reason {self.service}")
        return f"{reason} ({state})"

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((EXCEPTION_RESPONSE, self.state, self.service))
        return head if self.expected is None else head + self.expected.to_bytes(4, "big")


class ConfirmedServiceError(Apdu, frozen=True):
    """The meter refused a service: `service` failed with ServiceError `kind` and `value`."""

    service: int
    kind: int
    value: int

    @property
    def words(self) -> str:
        """Return what it means to a field engineer."""
        service = _FAILED_SERVICES.get(self.service, f"service {self.service}")
        kind, values = _ERRORS.get(self.kind, (f"error {self.kind}", ()))
        value = values[self.value] if self.value < len(values) else f"code {self.value}"
        return f"{service} failed: {value} ({kind})"

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return bytes((CONFIRMED_SERVICE_ERROR, self.service, self.kind, self.value))


def parse_exception_response(apdu: bytes) -> ExceptionResponse:
    """Read an exception-response. Raises FrameError."""
    cursor = Cursor(apdu)
    cursor.expect(EXCEPTION_RESPONSE, "exception-response")
    state, service = cursor.u8(), cursor.u8()
    if not 1 <= service <= COUNTER_ERROR:
        raise FrameError(f"exception-response with reason {service}, which is unknown")
    # Meters before the field's invention send no counter with the error.
    expected = cursor.u32() if service == COUNTER_ERROR and cursor.at < len(apdu) else None
    cursor.end()
    return ExceptionResponse(state, service, expected)


def parse_confirmed_service_error(apdu: bytes) -> ConfirmedServiceError:
    """Read a confirmed-service-error. Raises FrameError."""
    cursor = Cursor(apdu)
    cursor.expect(CONFIRMED_SERVICE_ERROR, "confirmed-service-error")
    error = ConfirmedServiceError(cursor.u8(), cursor.u8(), cursor.u8())
    cursor.end()
    return error
