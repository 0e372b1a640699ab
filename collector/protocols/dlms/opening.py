"""The parts of opening an association: the AARQ, what its answer says, and the passes of HLS. No states, no order."""

from collector.keys import MeterKeys
from collector.protocols.dlms import hls
from collector.protocols.dlms.acse import (
    DLMS_VERSION,
    INITIATE_RESPONSE,
    PDU_MAX,
    Aare,
    Aarq,
    AssociationResult,
    InitiateRequest,
    Mechanism,
    parse_initiate_response,
)
from collector.protocols.dlms.association import Association, Negotiated
from collector.protocols.dlms.ciphering import TITLE_LENGTH
from collector.protocols.dlms.errors import BusyMeterError, WrongKeyError, WrongPasswordError
from collector.protocols.dlms.failures import CONFIRMED_SERVICE_ERROR, parse_confirmed_service_error
from collector.protocols.dlms.hls import Side
from collector.protocols.dlms.protection import Protection
from collector.protocols.dlms.references import ActionResult, Method
from collector.protocols.dlms.refusals import of_aare, of_service_error
from metering.errors import AuthError, FrameError, MeterError

# Current association, reply_to_HLS_authentication (Blue Book 4.4.4, class 15).
REPLY_TO_HLS = Method(15, "0-0:40.0.0*255", 1)
MIN_SERVER_PDU = 64  # a meter that takes less cannot be spoken to

_HIGH = (Mechanism.HIGH_MD5, Mechanism.HIGH_SHA1, Mechanism.HIGH_GMAC, Mechanism.HIGH_SHA256)
_TITLED = (Mechanism.HIGH_GMAC, Mechanism.HIGH_SHA256)  # our system title is part of the answer


def initiate(association: Association, dedicated: bytes = b"") -> bytes:
    """Return the plain initiate-request."""
    return InitiateRequest(association.proposed, association.max_pdu, dedicated).to_bytes()


def build_aarq(association: Association, keys: MeterKeys, challenge: bytes, user_information: bytes) -> bytes:
    """Return the AARQ; `challenge` is ours for HLS.

    Raises:
        AuthError: low-level security without a password.

    """
    if association.mechanism is Mechanism.LOW and not keys.password:
        raise AuthError("no password for this meter")
    secret = {Mechanism.NONE: b"", Mechanism.LOW: keys.password}.get(association.mechanism, challenge)
    titled = association.ciphered or association.mechanism in _TITLED
    title = association.client_title if titled else b""
    return Aarq(association.context, association.mechanism, title, secret, user_information).to_bytes()


def check_aare(aare: Aare, association: Association) -> None:
    """Refuse a rejected association, and one that is not the one asked for.

    Raises:
        AuthError, RefusedError: the meter rejects it, or is another meter than expected, or does not challenge us.
        FrameError: another context or mechanism than asked for.

    """
    if aare.result != AssociationResult.ACCEPTED:
        plain = aare.user_information[:1] == bytes((CONFIRMED_SERVICE_ERROR,))
        failure = parse_confirmed_service_error(aare.user_information) if plain else None
        raise of_aare(aare, association, failure)
    if aare.context is not association.context:
        raise FrameError(f"context {aare.context.name} answered, {association.context.name} asked for")
    if association.ciphered and len(aare.title) not in (0, TITLE_LENGTH):
        raise FrameError(f"the meter tells a system title of {len(aare.title)} bytes, it has {TITLE_LENGTH}")
    if aare.title and association.server_title and aare.title != association.server_title:
        raise AuthError(
            f"this meter has system title {aare.title.hex()}, {association.server_title.hex()} is configured"
        )
    if association.mechanism in _HIGH:
        if aare.mechanism not in (association.mechanism, Mechanism.NONE):
            raise FrameError(f"mechanism {aare.mechanism.name} answered, {association.mechanism.name} asked for")
        if not aare.authentication:
            raise AuthError("the meter accepts the association without proving itself: no challenge came")


def negotiate(aare: Aare, association: Association, protection: Protection) -> Negotiated:
    """Return what the meter agreed to.

    Raises:
        FrameError: no initiate-response, or one in the clear where ciphering is agreed, or one that makes no sense.
        AuthError: it does not open with our keys.

    """
    content = aare.user_information
    if association.ciphered and content[:1] != bytes((CONFIRMED_SERVICE_ERROR,)):
        content = protection.open(content)
    if content[:1] == bytes((CONFIRMED_SERVICE_ERROR,)):
        raise of_service_error(parse_confirmed_service_error(content))
    if content[:1] != bytes((INITIATE_RESPONSE,)):
        raise FrameError("an AARE without an initiate-response")
    response = parse_initiate_response(content)
    if response.version < DLMS_VERSION:
        raise FrameError(f"the meter speaks xDLMS version {response.version}, {DLMS_VERSION} is needed")
    if 0 < response.max_pdu < MIN_SERVER_PDU:
        raise FrameError(f"the meter takes APDUs of {response.max_pdu} bytes only")
    return Negotiated(response.conformance & association.proposed, response.max_pdu or PDU_MAX, protection.server_title)


def prove(association: Association, keys: MeterKeys, protection: Protection, ours: bytes, theirs: bytes) -> bytes:
    """Return our answer to the meter's challenge `theirs` (pass 3); by GMAC it consumes a counter.

    Raises:
        AuthError: a secret, key, title or counter is missing, or it is our own challenge.
        FrameError: a challenge of a wrong length.

    """
    hls.check_challenge(theirs, ours)
    if association.mechanism is Mechanism.HIGH_GMAC:
        counter = protection.next_counter()
        return hls.gmac_answer(keys.encryption, keys.authentication, association.client_title, counter, theirs)
    client, server = Side(association.client_title, ours), Side(protection.server_title, theirs)
    return hls.digest_answer(association.mechanism, keys.password, client, server)


def not_proven(association: Association, result: ActionResult) -> MeterError:
    """Return the error for a meter that does not take our answer to its challenge."""
    if result is ActionResult.TEMPORARY_FAILURE:
        return BusyMeterError(f"the meter cannot check our answer: {result.words}", code=result.value)
    if association.mechanism is Mechanism.HIGH_GMAC:
        return WrongKeyError(
            f"the meter does not take our answer to its challenge: wrong keys or titles ({result.words})"
        )
    return WrongPasswordError(f"the meter does not take our answer to its challenge: wrong secret ({result.words})")


def check_proof(
    association: Association, keys: MeterKeys, protection: Protection, ours: bytes, theirs: bytes, answer: bytes
) -> None:
    """Check the meter's answer to our challenge (pass 4).

    Raises:
        WrongPasswordError: the meter does not know the secret.
        AuthError, FrameError: as of `hls.check_gmac`.

    """
    if association.mechanism is Mechanism.HIGH_GMAC:
        # Its counter need not rise: the challenge was new, and the answer comes within an APDU of a later counter.
        hls.check_gmac(answer, keys.encryption, keys.authentication, protection.server_title, ours)
        return
    client, server = Side(association.client_title, ours), Side(protection.server_title, theirs)
    hls.check_digest(answer, association.mechanism, keys.password, server, client)
