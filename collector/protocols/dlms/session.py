"""A client's session with one logical device: associations, GET, SET, ACTION, as conversations. No wire, no time-outs.

What may happen when stands in `session_table`. Conversations yield APDUs and are sent the APDUs that come back. An
empty yield asks for the next APDU without anything being sent: what came was a late answer or a notification.
Security suite 1 and general block transfer would join in `protection` and `_ask`; neither is spoken now.
"""

from collections.abc import Sequence
from typing import TypeVar

from collector.keys import InvocationCounter, MeterKeys
from collector.protocols.conversation import Conversation
from collector.protocols.dlms import axdr, hls, opening
from collector.protocols.dlms.acse import AARE, Conformance, Mechanism, Rlrq, parse_aare
from collector.protocols.dlms.action import ActionFirstBlockRequest, ActionRequest, ActionResponse
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.association import Association, Ciphering, Negotiated, Security
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.ciphering import CIPHERED_TAGS
from collector.protocols.dlms.cursor import Cursor
from collector.protocols.dlms.errors import ChangedAnswerError, LinkClosedError
from collector.protocols.dlms.failures import ConfirmedServiceError, ExceptionResponse
from collector.protocols.dlms.get import (
    GetBlockResponse,
    GetListRequest,
    GetListResponse,
    GetRequest,
    GetResponse,
    read_results,
)
from collector.protocols.dlms.invoke import Apdu, invoke_id, invoke_octet
from collector.protocols.dlms.notification import DataNotification, EventNotification
from collector.protocols.dlms.protection import Protection
from collector.protocols.dlms.references import Access, ActionResult, Attribute, DataAccessResult, Method
from collector.protocols.dlms.refusals import NOT_NEGOTIATED, raise_failure, refused
from collector.protocols.dlms.session_table import ANSWERS, TRANSITIONS, Event, State
from collector.protocols.dlms.set import SetFirstBlockRequest, SetLastBlockResponse, SetRequest, SetResponse
from collector.protocols.dlms.transfer import (
    read_action_blocks,
    read_get_blocks,
    send_action_blocks,
    send_set_blocks,
)
from metering.errors import AuthError, FrameError, LinkDownError, MeterError, RefusedError

__all__ = ["Association", "Ciphering", "Mechanism", "Negotiated", "Security", "Session", "State"]

DEFAULT_LIMIT = 65536  # bytes of one reply, blocks joined
MAX_STRAY = 4  # late answers and notifications that are passed over while one answer is awaited
MAX_LIST = 64  # attributes in one request
_DESCRIPTOR = 10  # bytes of an attribute and its access flag
_LIST_HEAD = 4

T = TypeVar("T")


class Session:
    """A client's session. `limit` bounds the bytes of one reply. After an error of `Event.LOST` it may associate again.

    All conversations raise, besides what stands at each:
        RefusedError: the meter says no, in words; codes as in `refusals`.
        AuthError: keys, counters or passwords do not fit (subclasses in `errors`); the association is over.
        FrameError: the answer cannot be one to what was asked (with the subclasses in `errors`).
        LinkClosedError: no association is open.
    """

    def __init__(
        self,
        association: Association,
        keys: MeterKeys,
        counter: InvocationCounter | None,
        *,
        limit: int = DEFAULT_LIMIT,
    ) -> None:
        self._association = association
        self._keys = keys
        self._protection = Protection(association, keys, counter)
        self._limit = limit
        self._invoke = 0
        self.state = State.IDLE
        self.negotiated = Negotiated()

    # --- the association --------------------------------------------------------------------------------------------

    def associate(self) -> Conversation[None]:
        """Open the association, both ends proven where HLS is used.

        Raises:
            WrongPasswordError, WrongKeyError, CounterTooLowError: as they say.
            WrongClientError: the meter has no such association for this client.
            BusyMeterError: it serves somebody else now.

        """
        self._move(Event.ASSOCIATE)
        try:
            yield from self._associate()
        finally:
            if self.state is not State.ASSOCIATED:
                self._move(Event.LOST)

    def _associate(self) -> Conversation[None]:
        association, protection = self._association, self._protection
        ours = hls.make_challenge() if association.mechanism > Mechanism.LOW else b""
        dedicated = protection.renew()
        self.negotiated = Negotiated()
        initiate = protection.seal(opening.initiate(association, dedicated))
        reply = yield from self._aare(opening.build_aarq(association, self._keys, ours, initiate))
        aare = parse_aare(reply)
        opening.check_aare(aare, association)
        protection.server_title = protection.server_title or aare.title
        self.negotiated = opening.negotiate(aare, association, protection)
        if ours:
            self._move(Event.CHALLENGED)
            yield from self._prove(ours, aare.authentication)
            self._move(Event.PROVED)
        else:
            self._move(Event.ACCEPTED)
        # Pass 3 still goes under the global key, as other clients do it.
        protection.in_force()

    def _aare(self, aarq: bytes) -> Conversation[bytes]:
        """Send the AARQ; return the AARE. What still comes of an earlier association is passed over unopened."""
        reply = yield aarq
        for _ in range(MAX_STRAY):
            self._check_length(reply)
            if reply[:1] == bytes((AARE,)):
                return reply
            if reply[0] not in CIPHERED_TAGS:
                answer = parse_apdu(reply)
                if isinstance(answer, ExceptionResponse | ConfirmedServiceError):
                    raise_failure(answer)
            reply = yield b""
        raise FrameError(f"no AARE among {MAX_STRAY} APDUs")

    def _prove(self, ours: bytes, theirs: bytes) -> Conversation[None]:
        association, keys, protection = self._association, self._keys, self._protection
        answer = opening.prove(association, keys, protection, ours, theirs)
        request = ActionRequest(self._next_invoke(), opening.REPLY_TO_HLS, axdr.octets(answer))
        response = yield from self._ask(request)
        if not isinstance(response, ActionResponse):
            raise FrameError("no action-response to the answer of the challenge")
        if response.result is not ActionResult.SUCCESS:
            raise opening.not_proven(association, response.result)
        returned = response.returned
        if not isinstance(returned, Data) or not isinstance(returned.value, bytes):
            raise AuthError("the meter does not answer our challenge: it has not proven itself")
        opening.check_proof(association, keys, protection, ours, theirs, returned.value)

    def release(self) -> Conversation[None]:
        """Close the association, as well as it goes: no error of the meter's or the wire's comes out of it."""
        if self.state is not State.ASSOCIATED:
            return
        self._move(Event.RELEASE)
        try:
            association = self._association
            # In a ciphered context the request proves itself by the same initiate-request.
            proof = self._protection.seal(opening.initiate(association)) if association.ciphered else b""
            reply = yield Rlrq(0, proof).to_bytes()
            self._check_length(reply)
        except MeterError:
            pass
        finally:
            self._move(Event.LOST)

    # --- services ---------------------------------------------------------------------------------------------------

    def get(self, attribute: Attribute, access: Access | None = None) -> Conversation[Data]:
        """Read an attribute."""
        raw = yield from self.get_raw(attribute, access)
        return axdr.decode_all(raw)

    def get_raw(self, attribute: Attribute, access: Access | None = None) -> Conversation[bytes]:
        """Read an attribute; return its A-XDR bytes, blocks joined."""
        if access is not None and not self._agreed(Conformance.SELECTIVE_ACCESS):
            raise RefusedError(f"{attribute}: the meter did not agree to selective access", code=NOT_NEGOTIATED)
        result = yield from self._service(Event.GET, self._get(attribute, access))
        if isinstance(result, DataAccessResult):
            raise refused(attribute, result)
        return result

    def get_list(self, attributes: Sequence[Attribute]) -> Conversation[list[Data | DataAccessResult]]:
        """Read several attributes, in as few requests as the meter's PDU allows; a refused one gives its reason."""
        results: list[Data | DataAccessResult] = []
        room = (self.negotiated.server_max_pdu - self._protection.overhead() - _LIST_HEAD) // _DESCRIPTOR
        size = min(room, MAX_LIST) if self._agreed(Conformance.MULTIPLE_REFERENCES) else 1
        for start in range(0, len(attributes), max(size, 1)):
            some = attributes[start : start + max(size, 1)]
            if len(some) == 1:
                one = yield from self._service(Event.GET, self._get(some[0], None))
                results.append(one if isinstance(one, DataAccessResult) else axdr.decode_all(one))
            else:
                results += yield from self._service(Event.GET, self._get_some(some))
        return results

    def set(self, attribute: Attribute, value: Data, access: Access | None = None) -> Conversation[None]:
        """Write an attribute, in blocks where it does not fit the meter's PDU."""
        result = yield from self._service(Event.SET, self._set(attribute, access, value))
        if result is not DataAccessResult.SUCCESS:
            raise refused(attribute, result)

    def action(self, method: Method, parameter: Data | None = None) -> Conversation[Data | None]:
        """Carry out a method; return what it gives back."""
        result, returned = yield from self._service(Event.ACTION, self._action(method, parameter))
        if result is not ActionResult.SUCCESS:
            raise refused(method, result)
        if isinstance(returned, DataAccessResult):
            if returned is not DataAccessResult.SUCCESS:
                raise refused(method, returned)
            return None
        return returned

    def _service(self, event: Event, work: Conversation[T]) -> Conversation[T]:
        """Carry out one service and leave the state that its end means."""
        self._move(event)
        ending = Event.BROKEN
        try:
            result = yield from work
            ending = Event.DONE
        except RefusedError:
            ending = Event.DONE
            raise
        except (AuthError, ChangedAnswerError, LinkDownError, LinkClosedError):
            ending = Event.LOST
            raise
        finally:
            self._move(ending)
        return result

    def _get(self, attribute: Attribute, access: Access | None) -> Conversation[bytes | DataAccessResult]:
        response = yield from self._ask(GetRequest(self._next_invoke(), attribute, access))
        if isinstance(response, GetResponse):
            return response.data
        if isinstance(response, GetBlockResponse):
            return (yield from read_get_blocks(self._ask, response, self._limit))
        raise FrameError("a list came for one attribute")

    def _get_some(self, attributes: Sequence[Attribute]) -> Conversation[tuple[Data | DataAccessResult, ...]]:
        targets = tuple((attribute, None) for attribute in attributes)
        response = yield from self._ask(GetListRequest(self._next_invoke(), targets))
        if isinstance(response, GetListResponse):
            results = response.results
        elif isinstance(response, GetBlockResponse):
            results = _list_of((yield from read_get_blocks(self._ask, response, self._limit)), attributes)
        else:
            results = _list_of(response.data if isinstance(response, GetResponse) else b"", attributes)
        if len(results) != len(attributes):
            raise FrameError(f"{len(results)} values came for {len(attributes)} attributes")
        return results

    def _set(self, attribute: Attribute, access: Access | None, value: Data) -> Conversation[DataAccessResult]:
        request = SetRequest(self._next_invoke(), attribute, access, value)
        response: Apdu
        if self._fits(request):
            response = yield from self._ask(request)
        else:
            self._need_blocks(Conformance.BLOCK_SET, attribute)
            first = SetFirstBlockRequest(request.invoke, attribute, access, last=False, number=1, raw=b"")
            response = yield from send_set_blocks(self._ask, first, axdr.encode(value), self._room())
        if isinstance(response, SetResponse | SetLastBlockResponse):
            return response.result
        raise FrameError("the meter asks for a block after the last")

    def _action(
        self, method: Method, parameter: Data | None
    ) -> Conversation[tuple[ActionResult, Data | DataAccessResult | None]]:
        request = ActionRequest(self._next_invoke(), method, parameter)
        response: Apdu
        if parameter is None or self._fits(request):
            response = yield from self._ask(request)
        else:
            self._need_blocks(Conformance.BLOCK_ACTION, method)
            first = ActionFirstBlockRequest(request.invoke, method, last=False, number=1, raw=b"")
            response = yield from send_action_blocks(self._ask, first, axdr.encode(parameter), self._room())
        if isinstance(response, ActionResponse):
            return response.result, response.returned
        return (yield from read_action_blocks(self._ask, response, self._limit))

    # --- one request and its answer ---------------------------------------------------------------------------------

    def _ask(self, request: Apdu) -> Conversation[Apdu]:
        """Send a request; return the answer with its invoke-id, of a type that the state awaits."""
        invoke: int = request.invoke  # type: ignore[attr-defined] # all requests of services have one
        reply = yield self._protection.seal(request.to_bytes())
        for _ in range(MAX_STRAY):
            answer = self._opened(reply)
            if isinstance(answer, ExceptionResponse | ConfirmedServiceError):
                raise_failure(answer)
            of_answer = getattr(answer, "invoke", None)
            if of_answer is not None and invoke_id(of_answer) == invoke_id(invoke):
                if isinstance(answer, ANSWERS[self.state]):
                    return answer
                raise FrameError(f"{type(answer).__name__} came while {self.state.value}")
            if of_answer is None and not isinstance(answer, DataNotification | EventNotification):
                raise FrameError(f"{type(answer).__name__} came while {self.state.value}")
            reply = yield b""
        raise FrameError(f"no answer to this request among {MAX_STRAY} APDUs")

    def _opened(self, reply: bytes) -> Apdu:
        self._check_length(reply)
        if not self._association.ciphered:
            return parse_apdu(reply)
        if reply[0] in CIPHERED_TAGS:
            return parse_apdu(self._protection.open(reply))
        answer = parse_apdu(reply)
        # A meter that could not decipher the request cannot cipher its refusal.
        if not isinstance(answer, ExceptionResponse | ConfirmedServiceError):
            raise FrameError(f"{type(answer).__name__} in the clear, where ciphering is agreed")
        return answer

    def _check_length(self, reply: bytes) -> None:
        if not reply:
            raise FrameError("an empty APDU")
        if len(reply) > self._limit:
            raise FrameError(f"a reply of {len(reply)} bytes, {self._limit} are allowed")

    def _next_invoke(self) -> int:
        self._invoke = self._invoke % 15 + 1
        return invoke_octet(self._invoke, high=self._agreed(Conformance.PRIORITY))

    def _agreed(self, what: Conformance) -> bool:
        return what in self.negotiated.conformance

    def _room(self) -> int:
        return self.negotiated.server_max_pdu - self._protection.overhead()

    def _fits(self, request: Apdu) -> bool:
        return len(request.to_bytes()) <= self._room()

    def _need_blocks(self, what: Conformance, target: Attribute | Method) -> None:
        if not self._agreed(what):
            size = self.negotiated.server_max_pdu
            words = (
                f"{target}: the request is longer than the {size} bytes that the meter takes, and it takes no blocks"
            )
            raise RefusedError(words, code=NOT_NEGOTIATED)

    def _move(self, event: Event) -> None:
        state = TRANSITIONS[self.state].get(event)
        if state is None:
            raise LinkClosedError(f"no association is open: cannot {event.value} while {self.state.value}")
        self.state = state


def _list_of(joined: bytes | DataAccessResult, attributes: Sequence[Attribute]) -> tuple[Data | DataAccessResult, ...]:
    if isinstance(joined, DataAccessResult):
        raise refused(attributes[0], joined)
    cursor = Cursor(joined)
    results = read_results(cursor)
    cursor.end()
    return results
