"""A meter's refusals as errors that a field engineer understands. Pure: APDU in, error out."""

from typing import NoReturn

from collector.protocols.dlms.acse import Aare, AssociationResult, Diagnostic, Mechanism
from collector.protocols.dlms.association import Association
from collector.protocols.dlms.errors import (
    BusyMeterError,
    CounterTooLowError,
    WrongClientError,
    WrongKeyError,
    WrongPasswordError,
)
from collector.protocols.dlms.failures import (
    APPLICATION_REFERENCE,
    CONFIRMED_SERVICE_ERROR,
    COUNTER_ERROR,
    DECIPHERING_ERROR,
    EXCEPTION_RESPONSE,
    HARDWARE_RESOURCE,
    INITIATE,
    ConfirmedServiceError,
    ExceptionResponse,
)
from collector.protocols.dlms.references import ActionResult, Attribute, DataAccessResult, Method
from metering.errors import AuthError, MeterError, RefusedError

# `RefusedError.code`: below 256 a data-access-result or action-result. Above, by what refused:
EXCEPTION_CODE = EXCEPTION_RESPONSE << 8  # + reason of an exception-response
ASSOCIATION_CODE = 0x61 << 8  # + diagnostic of an AARE
SERVICE_ERROR_CODE = CONFIRMED_SERVICE_ERROR << 16  # + kind << 8 + value of a confirmed-service-error
NOT_NEGOTIATED = 0x1_0000  # not sent at all: the meter did not agree to it

_DECIPHERING = (APPLICATION_REFERENCE, 6)
_DIAGNOSTICS = {
    Diagnostic.NULL: "no reason given",
    Diagnostic.NO_REASON: "no reason given",
    Diagnostic.CONTEXT_NOT_SUPPORTED: "it does not know this context (plain or ciphered) for this client",
    Diagnostic.CALLING_TITLE_NOT_RECOGNIZED: "it does not know our system title",
    Diagnostic.CALLED_TITLE_NOT_RECOGNIZED: "it does not know the system title that it was called by",
    Diagnostic.MECHANISM_NOT_RECOGNIZED: "it does not know this kind of authentication for this client",
    Diagnostic.MECHANISM_REQUIRED: "it wants to be told the kind of authentication",
    Diagnostic.AUTHENTICATION_FAILURE: "authentication failed: wrong password or key",
    Diagnostic.AUTHENTICATION_REQUIRED: "this client must authenticate itself",
}
_AUTHENTICATION = (
    Diagnostic.MECHANISM_NOT_RECOGNIZED,
    Diagnostic.MECHANISM_REQUIRED,
    Diagnostic.AUTHENTICATION_REQUIRED,
)


def refused(target: Attribute | Method, result: DataAccessResult | ActionResult) -> RefusedError:
    """Return the error for a result that is not success."""
    return RefusedError(f"{target}: {result.words}", code=result.value)


def raise_failure(failure: ExceptionResponse | ConfirmedServiceError) -> NoReturn:
    """Raise what an exception-response or confirmed-service-error means."""
    raise _of_exception(failure) if isinstance(failure, ExceptionResponse) else of_service_error(failure)


def _of_exception(failure: ExceptionResponse) -> MeterError:
    words = f"the meter refuses: {failure.words}"
    if failure.service == DECIPHERING_ERROR:
        return WrongKeyError(f"{words}: wrong key, wrong authentication key or wrong system title of ours")
    if failure.service == COUNTER_ERROR:
        expected = failure.expected or 0
        told = f"; it wants at least {expected}" if expected else ""
        return CounterTooLowError(f"{words}{told}", expected=expected)
    return RefusedError(words, code=EXCEPTION_CODE | failure.service)


def of_service_error(failure: ConfirmedServiceError) -> MeterError:
    """Return the error that a confirmed-service-error means."""
    words = f"the meter refuses: {failure.words}"
    code = SERVICE_ERROR_CODE | failure.kind << 8 | failure.value
    if (failure.kind, failure.value) == _DECIPHERING:
        return WrongKeyError(f"{words}: wrong key, wrong authentication key or wrong system title of ours")
    if failure.kind == INITIATE:
        return WrongClientError(words, code=code)
    if failure.kind == HARDWARE_RESOURCE:
        return BusyMeterError(words, code=code)
    return RefusedError(words, code=code)


def of_aare(aare: Aare, wanted: Association, failure: ConfirmedServiceError | None) -> MeterError:
    """Return the error that a rejected association means; `wanted` is the one that was asked for."""
    code = ASSOCIATION_CODE | aare.diagnostic
    if aare.provider:
        words = "no common ACSE version" if aare.diagnostic == 2 else "no reason given"
    else:
        words = _DIAGNOSTICS.get(Diagnostic(aare.diagnostic), "") if aare.diagnostic in tuple(Diagnostic) else ""
        words = words or f"diagnostic {aare.diagnostic}"
    words = f"the meter refuses the association: {words}"
    if failure is not None:
        error = of_service_error(failure)
        return error if isinstance(error, AuthError) else WrongClientError(f"{words}; {failure.words}", code=code)
    if aare.result == AssociationResult.REJECTED_TRANSIENT:
        return BusyMeterError(f"{words} (for now)", code=code)
    wrong = None if aare.provider else _authentication(aare.diagnostic, wanted, words)
    return wrong or WrongClientError(words, code=code)


def _authentication(diagnostic: int, wanted: Association, words: str) -> AuthError | None:
    """Return what a diagnostic says of passwords and keys, None where it is about something else."""
    if diagnostic == Diagnostic.AUTHENTICATION_FAILURE:
        keyed = wanted.ciphered or wanted.mechanism is Mechanism.HIGH_GMAC
        return WrongKeyError(words) if keyed else WrongPasswordError(words)
    if diagnostic in _AUTHENTICATION:
        return AuthError(words)
    if diagnostic <= Diagnostic.NO_REASON:
        # Many meters say no more than this to a wrong password or key; trying on would lock them.
        if wanted.mechanism is Mechanism.LOW:
            return WrongPasswordError(f"{words}; most often the password is wrong")
        if wanted.ciphered:
            return WrongKeyError(f"{words}; most often the key is wrong")
    return None
