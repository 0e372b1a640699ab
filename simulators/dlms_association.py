"""The meter's side of one association: opening, proving, ciphering, releasing. Values are the services' business.

One `Association` is one client's on one link; it ends with its link. Green Book 9.3 and 9.4.2, 9.2.7 for ciphering.
"""

import secrets
from enum import Enum, auto
from hmac import compare_digest

from collector.protocols.dlms import acse, failures, hls
from collector.protocols.dlms.acse import Aare, AssociationResult, Context, Diagnostic, Mechanism
from collector.protocols.dlms.action import ActionRequest, ActionResponse
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.axdr import Tag, octets
from collector.protocols.dlms.ciphering import (
    CIPHERED_TAGS,
    TITLE_LENGTH,
)
from collector.protocols.dlms.errors import WrongKeyError, WrongPasswordError
from collector.protocols.dlms.hls import Side
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.references import ActionResult
from metering.errors import FrameError
from simulators.dlms_blocks import NOT_POSSIBLE, UNKNOWN, UNLIMITED_PDU, Agreed
from simulators.dlms_cipher import Cipher, Refused
from simulators.dlms_faults import DlmsFault
from simulators.dlms_meter import DlmsMeter
from simulators.dlms_security import Client
from simulators.dlms_server import Services
from simulators.dlms_setup import ASSOCIATION

CIPHER_OVERHEAD = 32  # bytes: tag, title, length, SC, IC, tag of GCM
SHORTEST_PDU = 12
CHALLENGE_BYTES = 16
_HLS = (Mechanism.HIGH_MD5, Mechanism.HIGH_SHA1, Mechanism.HIGH_GMAC, Mechanism.HIGH_SHA256)
_DECIPHERING = failures.ExceptionResponse(failures.NOT_ALLOWED, failures.DECIPHERING_ERROR)
_TOO_LONG = failures.ExceptionResponse(failures.NOT_ALLOWED, failures.PDU_TOO_LONG)


class State(Enum):
    """How far the association is."""

    CLOSED = auto()
    PROVING = auto()  # HLS: the client's answer to the challenge is awaited
    OPEN = auto()


class Association:
    """The association of one client on one link. `serve` takes an APDU and returns the answer's bytes."""

    def __init__(self, meter: DlmsMeter, address: int) -> None:
        self.meter = meter
        self.address = address
        self.state = State.CLOSED
        self._security = meter.security
        self._services: Services | None = None
        self._client: Client | None = None
        self._title = b""  # the client's
        self._context = Context.LN
        self._theirs = self._ours = b""  # challenges
        self._cipher = Cipher(meter.security, Client(address), b"")

    def serve(self, apdu: bytes, now: int, fault: DlmsFault | None = None) -> bytes:
        """Return the answer to an APDU as it goes onto the link."""
        self._now = now
        self._fault = fault
        if self._fault is not None and self._fault.kind == "key_changed":
            self._security.keys.encryption = secrets.token_bytes(16)
        try:
            return self._serve(apdu)
        except Refused as refused:
            return refused.apdu.to_bytes()
        except WrongKeyError:
            self._security.failed(self.address, now)
            return _DECIPHERING.to_bytes()
        except FrameError:
            return UNKNOWN.to_bytes()

    def _serve(self, apdu: bytes) -> bytes:
        if len(apdu) > self._security.settings.max_pdu:
            return _TOO_LONG.to_bytes()
        if apdu[0] == acse.AARQ:
            return self._associate(acse.parse_aarq(apdu)).to_bytes()
        if apdu[0] == acse.RLRQ:
            return self._release(acse.parse_rlrq(apdu)).to_bytes()
        return NOT_POSSIBLE.to_bytes() if self.state is State.CLOSED else self._request(apdu)

    def close(self) -> None:
        """End it: the link is gone, or the client released it."""
        self.state = State.CLOSED
        self._services = None

    # -- opening

    def _associate(self, asked: acse.Aarq) -> Apdu:
        self.close()
        client = self._security.clients.get(self.address)
        self._context, self._title = asked.context, asked.title
        refusal = self._refusal(client, asked)
        if refusal is not None or client is None:
            return refusal or self._rejected(Diagnostic.NO_REASON)
        self._client = client
        self._cipher = Cipher(self._security, client, asked.title)
        request = self._initiate(asked)
        error = _initiate_error(request)
        if error is not None:
            return self._rejected(Diagnostic.NO_REASON, failures.ConfirmedServiceError(1, failures.INITIATE, error))
        if client.mechanism is Mechanism.LOW:
            if not compare_digest(client.secret, asked.authentication):
                self._security.failed(self.address, self._now)
                return self._rejected(Diagnostic.AUTHENTICATION_FAILURE)
            self._security.succeeded(self.address)
        return self._accept(client, asked, request)

    def _refusal(self, client: Client | None, asked: acse.Aarq) -> Apdu | None:
        if self._fault is not None and self._fault.kind == "busy":
            return self._rejected(Diagnostic.NO_REASON, result=AssociationResult.REJECTED_TRANSIENT)
        diagnostic = self._diagnose(client, asked)
        return None if diagnostic is None else self._rejected(diagnostic)

    def _diagnose(self, client: Client | None, asked: acse.Aarq) -> Diagnostic | None:
        """Return what is wrong with the request for an association, or None."""
        if client is None:
            return Diagnostic.NO_REASON
        found = None
        high = client.mechanism in _HLS
        needs_title = asked.context is Context.LN_CIPHERED or client.mechanism is Mechanism.HIGH_GMAC
        if asked.context not in client.contexts:
            found = Diagnostic.CONTEXT_NOT_SUPPORTED
        elif asked.mechanism is not client.mechanism:
            nothing = asked.mechanism is Mechanism.NONE
            found = Diagnostic.AUTHENTICATION_REQUIRED if nothing else Diagnostic.MECHANISM_NOT_RECOGNIZED
        elif needs_title and len(asked.title) != TITLE_LENGTH:
            found = Diagnostic.CALLING_TITLE_NOT_RECOGNIZED
        elif self._security.locked(self.address, self._now) or (high and not 8 <= len(asked.authentication) <= 64):
            found = Diagnostic.AUTHENTICATION_FAILURE
        return found

    def _initiate(self, asked: acse.Aarq) -> acse.InitiateRequest:
        plain = asked.user_information
        if asked.context is Context.LN_CIPHERED:
            try:
                plain = self._cipher.open(plain)
            except WrongKeyError:
                self._security.failed(self.address, self._now)
                error = failures.ConfirmedServiceError(1, failures.APPLICATION_REFERENCE, 6)
                raise Refused(self._rejected(Diagnostic.AUTHENTICATION_FAILURE, error)) from None
        try:
            return acse.parse_initiate_request(plain)
        except FrameError:
            raise Refused(self._rejected(Diagnostic.NO_REASON)) from None

    def _rejected(
        self,
        diagnostic: Diagnostic,
        error: Apdu | None = None,
        result: AssociationResult = AssociationResult.REJECTED_PERMANENT,
    ) -> Apdu:
        information = error.to_bytes() if error is not None else b""
        return Aare(self._context, result, diagnostic, title=self._shown_title(), user_information=information)

    def _shown_title(self) -> bytes:
        return self.meter.title if self._title or self._context is Context.LN_CIPHERED else b""

    def _accept(self, client: Client, asked: acse.Aarq, request: acse.InitiateRequest) -> Apdu:
        settings = self._security.settings
        conformance = request.conformance & settings.conformance
        ciphered = asked.context is Context.LN_CIPHERED
        theirs = request.max_pdu or UNLIMITED_PDU
        plain = theirs - CIPHER_OVERHEAD if ciphered and theirs > 2 * CIPHER_OVERHEAD else theirs
        self._services = Services(self.meter, Agreed(conformance, plain, client.address, client.role))
        self._cipher.dedicated = request.dedicated_key
        response = acse.InitiateResponse(conformance, settings.max_pdu).to_bytes()
        information = self._cipher.close(response, self._now, self._fault) if ciphered else response
        proving = client.mechanism in _HLS
        self._theirs = asked.authentication
        self._ours = secrets.token_bytes(CHALLENGE_BYTES) if proving else b""
        self.state = State.PROVING if proving else State.OPEN
        return Aare(
            asked.context,
            AssociationResult.ACCEPTED,
            Diagnostic.AUTHENTICATION_REQUIRED if proving else Diagnostic.NULL,
            title=self._shown_title(),
            mechanism=client.mechanism if proving else Mechanism.NONE,
            authentication=self._ours,
            user_information=information,
        )

    def _release(self, asked: acse.Rlrq) -> Apdu:
        information = b""
        if self._context is Context.LN_CIPHERED and self.state is not State.CLOSED and asked.user_information:
            self._cipher.open(asked.user_information)
            settings = self._security.settings
            response = acse.InitiateResponse(settings.conformance, settings.max_pdu).to_bytes()
            information = self._cipher.close(response, self._now, self._fault)
        self.close()
        return acse.Rlre(0, information)

    # -- requests

    def _request(self, apdu: bytes) -> bytes:
        ciphered = apdu[0] in CIPHERED_TAGS
        if ciphered != (self._context is Context.LN_CIPHERED):
            return NOT_POSSIBLE.to_bytes()
        self._cipher.begin()
        request = parse_apdu(self._cipher.open(apdu) if ciphered else apdu)
        if self.state is State.PROVING:
            answer = self._prove(request)
        elif self._services is None:
            answer = NOT_POSSIBLE
        else:
            self.meter.settle(self._now)
            answer = self._services.answer(request, self._now, self._fault)
        plain = answer.to_bytes()
        # An exception-response always comes in plain text.
        is_plain = not ciphered or plain[0] == failures.EXCEPTION_RESPONSE
        return plain if is_plain else self._cipher.close(plain, self._now, self._fault)

    def _prove(self, request: Apdu) -> Apdu:
        """Check the client's answer to our challenge, and give ours to theirs (HLS passes 3 and 4)."""
        client = self._client
        if not isinstance(request, ActionRequest) or client is None:
            return NOT_POSSIBLE
        if request.method != (15, ASSOCIATION, 1) or request.parameter is None:
            return NOT_POSSIBLE
        if request.parameter.tag is not Tag.OCTET_STRING:
            return ActionResponse(request.invoke, ActionResult.TYPE_UNMATCHED)
        ours, theirs = Side(self.meter.title, self._ours), Side(self._title, self._theirs)
        keys = self._security.keys
        try:
            if client.mechanism is Mechanism.HIGH_GMAC:
                answer = request.parameter.value
                counter = hls.check_gmac(answer, keys.encryption, keys.authentication, theirs.title, ours.challenge)
                self._cipher.prove(counter)
                own = self._security.own_counter(self._now)
                reply = hls.gmac_answer(keys.encryption, keys.authentication, ours.title, own, theirs.challenge)
            else:
                hls.check_digest(request.parameter.value, client.mechanism, client.secret, theirs, ours)
                reply = hls.digest_answer(client.mechanism, client.secret, ours, theirs)
        except (WrongPasswordError, FrameError):
            self._security.failed(self.address, self._now)
            self.state = State.CLOSED
            return ActionResponse(request.invoke, ActionResult.OTHER_REASON)
        self._security.succeeded(self.address)
        self.state = State.OPEN
        return ActionResponse(request.invoke, ActionResult.SUCCESS, octets(reply))


def _initiate_error(request: acse.InitiateRequest) -> int | None:
    """Return what is wrong with an initiate-request (confirmed-service-error, initiate), or None."""
    if request.version < acse.DLMS_VERSION:
        return 1
    if not request.conformance:
        return 2
    return 3 if 0 < request.max_pdu < SHORTEST_PDU else None
