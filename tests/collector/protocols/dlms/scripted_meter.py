"""A small meter at the other end of a session, built of the same codec: no simulated load, no wire."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from collector.keys import MeterKeys
from collector.protocols.dlms import acse, action, axdr, ciphering, get, hls
from collector.protocols.dlms import set as set_
from collector.protocols.dlms.acse import Conformance, Mechanism
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.association import CLIENT_CONFORMANCE, Association
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.ciphering import Ciphered
from collector.protocols.dlms.failures import ExceptionResponse
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.opening import REPLY_TO_HLS
from collector.protocols.dlms.references import ActionResult, Attribute, DataAccessResult

T = TypeVar("T")
CLIENT_TITLE = b"MTG\0\0\0\0\1"
METER_TITLE = b"ABC\0\0\0\0\2"
KEYS = MeterKeys(encryption=bytes(range(16)), authentication=bytes(range(0xD0, 0xE0)), password=b"12345678")


class Counter:
    """An invocation counter in memory that remembers what it gave out."""

    def __init__(self, start: int = 100) -> None:
        self.given: list[int] = []
        self._next = start

    def next(self) -> int:
        self.given.append(self._next)
        self._next += 1
        return self.given[-1]

    def skip(self) -> bool:
        return False

    def raise_to(self, expected: int) -> None:
        self._next = max(self._next, expected)

    @property
    def known(self) -> bool:
        return True


class Meter:
    """Answers APDUs. `block` cuts answers into blocks of that many bytes; `spoil` may change what is sent."""

    def __init__(
        self,
        association: Association,
        *,
        keys: MeterKeys = KEYS,
        values: dict[Attribute, Data] | None = None,
        block: int = 0,
        max_pdu: int = 0xFFFF,
        conformance: Conformance = CLIENT_CONFORMANCE | Conformance.GENERAL_PROTECTION,
    ) -> None:
        self.association = association
        self.keys = keys
        self.values = values or {}
        self.block = block
        self.max_pdu = max_pdu
        self.conformance = conformance
        self.counter = 5000
        self.counters_seen: list[int] = []
        self.plain_requests: list[bytes] = []
        self.methods: list[tuple[Any, Any]] = []
        self.spoil: Callable[[Apdu, Apdu], Apdu | bytes] = lambda _request, answer: answer
        self.theirs = self.ours = self.dedicated = b""
        self._pieces: list[bytes] = []
        self._parts = b""
        self._target: Any = None

    # --- the protection ---

    def _open(self, apdu: bytes) -> tuple[bytes, int | None]:
        if apdu[0] not in ciphering.CIPHERED_TAGS:
            return apdu, None
        closed = ciphering.parse_ciphered(apdu)
        assert closed.title in (b"", CLIENT_TITLE)
        key = self.dedicated if closed.tag in (*ciphering.PLAIN_OF_DED, 0xDC) else self.keys.encryption
        assert not self.counters_seen or closed.counter > self.counters_seen[-1]
        self.counters_seen.append(closed.counter)
        return (
            ciphering.unprotect(
                closed.control, key, self.keys.authentication, CLIENT_TITLE, closed.counter, closed.content
            ),
            closed.tag,
        )

    def seal(self, plain: bytes, like: int | None) -> bytes:
        if like is None:
            return plain
        self.counter += 1
        dedicated = like in (*ciphering.PLAIN_OF_DED, 0xDC)
        if like in (0xDB, 0xDC):
            tag, title = like, METER_TITLE
        else:
            tag, title = (ciphering.ded_tag if dedicated else ciphering.glo_tag)(plain[0]), b""
        key = self.dedicated if dedicated else self.keys.encryption
        control = self.association.security.value
        content = ciphering.protect(control, key, self.keys.authentication, METER_TITLE, self.counter, plain)
        return ciphering.build_ciphered(Ciphered(tag, title, control, self.counter, content))

    # --- the services ---

    def answer(self, apdu: bytes) -> bytes:
        assert len(apdu) <= self.max_pdu, "a request longer than the meter takes"
        if apdu[0] == acse.AARQ:
            return self._aare(acse.parse_aarq(apdu)).to_bytes()
        if apdu[0] == acse.RLRQ:
            return acse.Rlre(0).to_bytes()
        plain, tag = self._open(apdu)
        self.plain_requests.append(plain)
        request = parse_apdu(plain)
        answer = self.spoil(request, self._serve(request))
        if isinstance(answer, bytes):
            return answer
        return answer.to_bytes() if isinstance(answer, ExceptionResponse) else self.seal(answer.to_bytes(), tag)

    def _aare(self, aarq: acse.Aarq) -> acse.Aare:
        def refuse(diagnostic: int) -> acse.Aare:
            return acse.Aare(aarq.context, 1, diagnostic)

        if aarq.mechanism is not self.association.mechanism:
            return refuse(acse.Diagnostic.MECHANISM_NOT_RECOGNIZED)
        if aarq.context is not self.association.context:
            return refuse(acse.Diagnostic.CONTEXT_NOT_SUPPORTED)
        if aarq.mechanism is Mechanism.LOW and aarq.authentication != self.keys.password:
            return refuse(acse.Diagnostic.AUTHENTICATION_FAILURE)
        plain, tag = self._open(aarq.user_information)
        request = acse.parse_initiate_request(plain)
        self.dedicated = request.dedicated_key
        response = acse.InitiateResponse(request.conformance & self.conformance, self.max_pdu).to_bytes()
        sealed = self.seal(response, tag)
        high = aarq.mechanism > Mechanism.LOW
        self.theirs, self.ours = aarq.authentication, hls.make_challenge()
        return acse.Aare(
            aarq.context,
            0,
            acse.Diagnostic.AUTHENTICATION_REQUIRED if high else 0,
            title=METER_TITLE,
            mechanism=aarq.mechanism if high else Mechanism.NONE,
            authentication=self.ours if high else b"",
            user_information=sealed,
        )

    def _serve(self, request: Apdu) -> Apdu:  # noqa: PLR0911 - one branch a service
        if isinstance(request, get.GetRequest):
            value = self._value(request.attribute)
            return self._data(request.invoke, value if isinstance(value, DataAccessResult) else axdr.encode(value))
        if isinstance(request, get.GetListRequest):
            results = tuple(self._value(attribute) for attribute, _ in request.targets)
            if not self.block:
                return get.GetListResponse(request.invoke, results)
            return self._data(request.invoke, get.write_results(results))
        if isinstance(request, get.GetNextRequest):
            return self._next(request.invoke, request.number + 1)
        if isinstance(request, set_.SetRequest):
            return set_.SetResponse(request.invoke, self._store(request.attribute, request.value))
        if isinstance(request, set_.SetFirstBlockRequest):
            self._target, self._parts = request.attribute, request.raw
            return set_.SetBlockResponse(request.invoke, request.number)
        if isinstance(request, set_.SetBlockRequest):
            self._parts += request.raw
            if not request.last:
                return set_.SetBlockResponse(request.invoke, request.number)
            result = self._store(self._target, axdr.decode_all(self._parts))
            return set_.SetLastBlockResponse(request.invoke, result, request.number)
        return self._serve_action(request)

    def _serve_action(self, request: Apdu) -> Apdu:
        if isinstance(request, action.ActionFirstBlockRequest):
            self._target, self._parts = request.method, request.raw
            return action.ActionNextBlockResponse(request.invoke, request.number)
        if isinstance(request, action.ActionBlockRequest):
            self._parts += request.raw
            if not request.last:
                return action.ActionNextBlockResponse(request.invoke, request.number)
            request = action.ActionRequest(request.invoke, self._target, axdr.decode_all(self._parts))
        if isinstance(request, action.ActionNextBlockRequest):
            number, invoke = request.number + 1, request.invoke
            return action.ActionBlockResponse(invoke, number == len(self._pieces), number, self._pieces[number - 1])
        assert isinstance(request, action.ActionRequest)
        if request.method == REPLY_TO_HLS:
            return self._prove(request)
        self.methods.append((request.method, request.parameter))
        if not self.block:
            return action.ActionResponse(request.invoke, ActionResult.SUCCESS, request.parameter)
        self._cut(action.write_outcome(ActionResult.SUCCESS, request.parameter))
        return action.ActionBlockResponse(request.invoke, len(self._pieces) == 1, 1, self._pieces[0])

    def _prove(self, request: action.ActionRequest) -> Apdu:
        assert request.parameter is not None
        keys, mechanism = self.keys, self.association.mechanism
        client, meter = hls.Side(CLIENT_TITLE, self.theirs), hls.Side(METER_TITLE, self.ours)
        try:
            if mechanism is Mechanism.HIGH_GMAC:
                hls.check_gmac(request.parameter.value, keys.encryption, keys.authentication, CLIENT_TITLE, self.ours)
                self.counter += 1
                answer = hls.gmac_answer(keys.encryption, keys.authentication, METER_TITLE, self.counter, self.theirs)
            else:
                hls.check_digest(request.parameter.value, mechanism, keys.password, client, meter)
                answer = hls.digest_answer(mechanism, keys.password, meter, client)
        except hls.WrongPasswordError:
            return action.ActionResponse(request.invoke, ActionResult.READ_WRITE_DENIED)
        return action.ActionResponse(request.invoke, ActionResult.SUCCESS, axdr.octets(answer))

    def _value(self, attribute: Attribute) -> Data | DataAccessResult:
        return self.values.get(attribute, DataAccessResult.OBJECT_UNDEFINED)

    def _store(self, attribute: Attribute, value: Data) -> DataAccessResult:
        self.values[attribute] = value
        return DataAccessResult.SUCCESS

    def _cut(self, raw: bytes) -> None:
        self._pieces = [raw[at : at + self.block] for at in range(0, len(raw), self.block)]

    def _data(self, invoke: int, raw: bytes | DataAccessResult) -> Apdu:
        if isinstance(raw, DataAccessResult) or not self.block or len(raw) <= self.block:
            return get.GetResponse(invoke, raw)
        self._cut(raw)
        return self._next(invoke, 1)

    def _next(self, invoke: int, number: int) -> Apdu:
        return get.GetBlockResponse(invoke, number == len(self._pieces), number, self._pieces[number - 1])


def run(conversation: Generator[bytes, bytes, T], meter: Meter, late: list[bytes] | None = None) -> T:
    """Carry a conversation to its end. `late` answers come before the meter's own."""
    waiting = list(late or ())
    try:
        request = next(conversation)
        while True:
            if request:
                waiting.append(meter.answer(request))
            assert waiting, "the session waits for more than the meter sends"
            request = conversation.send(waiting.pop(0))
    except StopIteration as stop:
        return stop.value
