"""Any APDU as the value that it is: the front of the services' modules. Ciphered ones must be opened before."""

from collections.abc import Callable

from collector.protocols.dlms import acse, action, failures, get, notification
from collector.protocols.dlms import set as set_
from collector.protocols.dlms.invoke import Apdu
from metering.errors import FrameError

_PARSERS: dict[int, Callable[[bytes], Apdu]] = {
    acse.INITIATE_REQUEST: acse.parse_initiate_request,
    acse.INITIATE_RESPONSE: acse.parse_initiate_response,
    failures.CONFIRMED_SERVICE_ERROR: failures.parse_confirmed_service_error,
    notification.DATA_NOTIFICATION: notification.parse_data_notification,
    acse.AARQ: acse.parse_aarq,
    acse.AARE: acse.parse_aare,
    acse.RLRQ: acse.parse_rlrq,
    acse.RLRE: acse.parse_rlre,
    get.GET_REQUEST: get.parse_get_request,
    set_.SET_REQUEST: set_.parse_set_request,
    notification.EVENT_NOTIFICATION: notification.parse_event_notification,
    action.ACTION_REQUEST: action.parse_action_request,
    get.GET_RESPONSE: get.parse_get_response,
    set_.SET_RESPONSE: set_.parse_set_response,
    action.ACTION_RESPONSE: action.parse_action_response,
    failures.EXCEPTION_RESPONSE: failures.parse_exception_response,
}

# Known, and not spoken here: told by name, so that nobody takes them for noise.
_NAMES = {
    0x05: "read-request (short names)",
    0x06: "write-request (short names)",
    0x0C: "read-response (short names)",
    0x0D: "write-response (short names)",
    0x16: "unconfirmed-write-request (short names)",
    0x18: "information-report-request (short names)",
    0x21: "glo-initiate-request",
    0x28: "glo-initiate-response",
    0x2E: "glo-confirmed-service-error",
    0xC8: "glo-get-request",
    0xC9: "glo-set-request",
    0xCA: "glo-event-notification-request",
    0xCB: "glo-action-request",
    0xCC: "glo-get-response",
    0xCD: "glo-set-response",
    0xCF: "glo-action-response",
    0xD0: "ded-get-request",
    0xD1: "ded-set-request",
    0xD2: "ded-event-notification-request",
    0xD3: "ded-action-request",
    0xD4: "ded-get-response",
    0xD5: "ded-set-response",
    0xD7: "ded-action-response",
    0xD9: "access-request",
    0xDA: "access-response",
    0xDB: "general-glo-ciphering",
    0xDC: "general-ded-ciphering",
    0xDD: "general-ciphering",
    0xDF: "general-signing",
    0xE0: "general-block-transfer",
}


def parse_apdu(apdu: bytes) -> Apdu:
    """Return the APDU as its type.

    Raises:
        FrameError: it is cut off, has bytes too many, or is of a service that is not spoken here (named).

    """
    if not apdu:
        raise FrameError("an empty APDU")
    parser = _PARSERS.get(apdu[0])
    if parser is None:
        name = _NAMES.get(apdu[0], "an APDU of an unknown kind")
        raise FrameError(f"{name} ({apdu[0]:02X}) is not spoken here")
    return parser(apdu)
