"""The session against a small meter: every kind of association, every service, and what meters do wrong."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from collector.keys import MeterKeys
from collector.protocols.conversation import Conversation
from collector.protocols.dlms import acse, action, axdr, get
from collector.protocols.dlms import set as set_
from collector.protocols.dlms.acse import Conformance, Mechanism
from collector.protocols.dlms.errors import (
    BlockError,
    ChangedAnswerError,
    CounterTooLowError,
    LinkClosedError,
    ReplayedAnswerError,
    WrongClientError,
    WrongKeyError,
    WrongPasswordError,
)
from collector.protocols.dlms.failures import ConfirmedServiceError, ExceptionResponse
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.notification import DataNotification
from collector.protocols.dlms.references import (
    ActionResult,
    Attribute,
    DataAccessResult,
    Method,
    entry_access,
)
from collector.protocols.dlms.session import Association, Security, Session, State
from metering.errors import AuthError, FrameError, NoAnswerError, RefusedError
from tests.collector.protocols.dlms.scripted_meter import CLIENT_TITLE, KEYS, METER_TITLE, Counter, Meter, run

Spoiler = Callable[[Apdu], Apdu]
ENERGY = Attribute(3, "1-0:1.8.0*255", 2)
PROFILE = Attribute(7, "1-0:99.1.0*255", 2)
ABSENT = Attribute(3, "1-0:99.8.0*255", 2)
RECONNECT = Method(70, "0-0:96.3.10*255", 2)
ROWS = axdr.array(*(axdr.structure(axdr.octets(bytes(12)), axdr.u32(n)) for n in range(300)))
VALUES = {ENERGY: axdr.u32(5009), PROFILE: ROWS}

MECHANISMS = [m for m in Mechanism if m not in (Mechanism.HIGH, Mechanism.HIGH_ECDSA)]
CIPHERED = [
    (security, kind)
    for security in (Security.AUTHENTICATED, Security.ENCRYPTED, Security.AUTHENTICATED_ENCRYPTED)
    for kind in ("glo", "ded", "general-glo", "general-ded")
    if security & Security.ENCRYPTED or not kind.endswith("ded")
]


def association(
    mechanism: Mechanism = Mechanism.NONE, security: Security = Security.NONE, kind: str = "glo", **more: object
) -> Association:
    return Association(mechanism=mechanism, security=security, ciphering=kind, client_title=CLIENT_TITLE, **more)


def both(wanted: Association, *, keys: MeterKeys = KEYS, limit: int = 65536, **meter: object) -> tuple[Session, Meter]:
    session = Session(wanted, keys, Counter(), limit=limit)
    return session, Meter(wanted, values=dict(VALUES), **meter)


def opened(wanted: Association, **more: object) -> tuple[Session, Meter]:
    session, meter = both(wanted, **more)
    run(session.associate(), meter)
    return session, meter


FULL = association(Mechanism.HIGH_GMAC, Security.AUTHENTICATED_ENCRYPTED)
PLAIN = association()


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.name)
@pytest.mark.parametrize(
    ("security", "kind"), [(Security.NONE, "glo"), *CIPHERED], ids=lambda v: v.name if isinstance(v, Security) else v
)
def test_every_kind_of_association_reads_writes_acts_and_is_released(
    mechanism: Mechanism, security: Security, kind: str
):
    session, meter = opened(association(mechanism, security, kind), block=100, max_pdu=200)
    assert session.state is State.ASSOCIATED
    assert run(session.get(ENERGY), meter) == VALUES[ENERGY]
    assert run(session.get(PROFILE), meter) == ROWS
    assert run(session.get_raw(PROFILE), meter) == axdr.encode(ROWS)
    long = axdr.octets(bytes(range(256)) * 3)
    run(session.set(ENERGY, long), meter)
    assert meter.values[ENERGY] == long
    assert run(session.action(RECONNECT, axdr.i8(0)), meter) == axdr.i8(0)
    assert run(session.action(RECONNECT, long), meter) == long
    run(session.release(), meter)
    assert session.state is State.IDLE


def test_each_ciphered_apdu_takes_one_counter_and_the_proof_by_gmac_another():
    wanted, counter = FULL, Counter(100)
    session, meter = Session(wanted, KEYS, counter), Meter(wanted, values=dict(VALUES))
    run(session.associate(), meter)
    run(session.get(ENERGY), meter)
    run(session.release(), meter)
    # Initiate, proof, action, get, release.
    assert counter.given == [100, 101, 102, 103, 104]
    assert meter.counters_seen == [100, 102, 103]


def test_a_plain_association_takes_no_counter_at_all():
    session = Session(association(Mechanism.HIGH_SHA256), KEYS, None)
    meter = Meter(association(Mechanism.HIGH_SHA256), values=dict(VALUES))
    run(session.associate(), meter)
    assert run(session.get(ENERGY), meter) == VALUES[ENERGY]


def test_what_was_negotiated_is_shown():
    session, _ = opened(FULL, max_pdu=500)
    assert session.negotiated.server_max_pdu == 500
    assert session.negotiated.server_title == METER_TITLE
    assert Conformance.GET in session.negotiated.conformance


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [0, 7, 50])
def test_a_list_gives_values_and_reasons_in_order(block: int):
    session, meter = opened(FULL, block=block)
    wanted = [ENERGY, ABSENT, ENERGY, PROFILE]
    expected = [VALUES[ENERGY], DataAccessResult.OBJECT_UNDEFINED, VALUES[ENERGY], ROWS]
    assert run(session.get_list(wanted), meter) == expected


def test_a_list_is_split_to_fit_the_meters_pdu():
    session, meter = opened(FULL, max_pdu=100)
    assert run(session.get_list([ENERGY] * 30), meter) == [VALUES[ENERGY]] * 30
    assert len([plain for plain in meter.plain_requests if plain[0] == get.GET_REQUEST]) == 5


def test_a_meter_without_multiple_references_is_asked_one_by_one():
    session, meter = opened(PLAIN, conformance=Conformance.GET)
    assert run(session.get_list([ENERGY, ABSENT]), meter) == [VALUES[ENERGY], DataAccessResult.OBJECT_UNDEFINED]
    assert [plain[1] for plain in meter.plain_requests] == [1, 1]


def test_a_list_of_another_length_is_no_answer():
    session, meter = opened(PLAIN)
    meter.spoil = lambda _, answer: get.GetListResponse(answer.invoke, answer.results[1:])
    with pytest.raises(FrameError, match="1 values came for 2"):
        run(session.get_list([ENERGY, ABSENT]), meter)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_refused_attribute_is_told_in_words_with_its_code():
    session, meter = opened(PLAIN)
    with pytest.raises(RefusedError, match=r"1-0:99.8.0.*has no such object") as caught:
        run(session.get(ABSENT), meter)
    assert caught.value.code == 4
    assert run(session.get(ENERGY), meter) == VALUES[ENERGY]


def test_a_refused_method_is_told_with_its_code():
    session, meter = opened(PLAIN)
    meter.spoil = lambda _, answer: action.ActionResponse(answer.invoke, ActionResult.READ_WRITE_DENIED)
    with pytest.raises(RefusedError, match="does not allow") as caught:
        run(session.action(RECONNECT, axdr.i8(0)), meter)
    assert caught.value.code == 3


def test_a_refused_write_is_told_with_its_code():
    session, meter = opened(PLAIN)
    meter.spoil = lambda _, answer: set_.SetResponse(answer.invoke, DataAccessResult.TYPE_UNMATCHED)
    with pytest.raises(RefusedError, match="another type") as caught:
        run(session.set(ENERGY, axdr.u8(1)), meter)
    assert caught.value.code == 12


def test_selective_access_that_was_not_agreed_is_not_sent():
    session, meter = opened(PLAIN, conformance=Conformance.GET)
    with pytest.raises(RefusedError, match="selective access"):
        run(session.get(PROFILE, entry_access(1, 2)), meter)
    assert not meter.plain_requests


def test_a_value_too_long_for_a_meter_without_blocks_is_refused_before_it_is_sent():
    session, meter = opened(PLAIN, max_pdu=100, conformance=Conformance.SET)
    with pytest.raises(RefusedError, match="takes no blocks"):
        run(session.set(ENERGY, axdr.octets(bytes(200))), meter)


@pytest.mark.parametrize(
    ("failure", "error", "state"),
    [
        (ExceptionResponse(1, 5), WrongKeyError, State.IDLE),
        (ExceptionResponse(1, 6, 777), CounterTooLowError, State.IDLE),
        (ExceptionResponse(2, 2), RefusedError, State.ASSOCIATED),
        (ExceptionResponse(1, 4), RefusedError, State.ASSOCIATED),
        (ConfirmedServiceError(1, 0, 6), WrongKeyError, State.IDLE),
        (ConfirmedServiceError(5, 5, 1), RefusedError, State.ASSOCIATED),
    ],
    ids=str,
)
def test_a_meters_failure_is_told_as_what_it_means(failure: Apdu, error: type[Exception], state: State):
    session, meter = opened(FULL)
    meter.spoil = lambda _request, _answer: failure.to_bytes()
    with pytest.raises(error) as caught:
        run(session.get(ENERGY), meter)
    assert type(caught.value) is error
    assert session.state is state
    if isinstance(caught.value, CounterTooLowError):
        assert caught.value.expected == 777
    if isinstance(caught.value, RefusedError):
        assert caught.value.code > 255


# --- opening --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "keys", "error"),
    [
        (association(Mechanism.LOW), MeterKeys(password=b"wrong"), WrongPasswordError),
        (association(Mechanism.LOW), MeterKeys(), AuthError),
        (association(Mechanism.HIGH_MD5), MeterKeys(password=b"wrong"), WrongPasswordError),
        (association(Mechanism.HIGH_GMAC), MeterKeys(encryption=bytes(16), authentication=bytes(16)), WrongKeyError),
        (FULL, MeterKeys(), AuthError),
    ],
)
def test_a_wrong_or_missing_secret_is_told_as_such(wanted: Association, keys: MeterKeys, error: type[Exception]):
    session, meter = both(wanted, keys=keys)
    with pytest.raises(error):
        run(session.associate(), meter)
    assert session.state is State.IDLE


def test_a_meter_that_does_not_know_the_secret_is_found_out():
    wanted = association(Mechanism.HIGH_SHA256)
    session, meter = both(wanted)
    meter.spoil = lambda _, answer: action.ActionResponse(answer.invoke, ActionResult.SUCCESS, axdr.octets(bytes(32)))
    with pytest.raises(WrongPasswordError):
        run(session.associate(), meter)
    meter.spoil = lambda _, answer: action.ActionResponse(answer.invoke, ActionResult.SUCCESS)
    with pytest.raises(AuthError, match="has not proven itself"):
        run(session.associate(), meter)


def test_a_meter_that_skips_its_proof_is_not_believed():
    session, _ = both(association(Mechanism.HIGH_MD5))
    with pytest.raises(AuthError, match="no challenge"):
        run(session.associate(), Meter(PLAIN), late=[_aare(0, 0)])


def test_another_meter_at_the_address_is_told_by_its_system_title():
    session, _ = both(association(Mechanism.HIGH_MD5, server_title=b"XYZ\0\0\0\0\3"))
    with pytest.raises(AuthError, match="is configured"):
        run(session.associate(), Meter(association(Mechanism.HIGH_MD5)))


def _aare(result: int, diagnostic: int, content: bytes = b"", *, provider: bool = False) -> bytes:
    return acse.Aare(acse.Context.LN, result, diagnostic, provider, user_information=content).to_bytes()


@pytest.mark.parametrize(
    ("mechanism", "reply", "error", "words"),
    [
        (Mechanism.NONE, _aare(1, 1), WrongClientError, "no reason"),
        (Mechanism.LOW, _aare(1, 1), WrongPasswordError, "most often"),
        (Mechanism.LOW, _aare(1, 13), WrongPasswordError, "authentication failed"),
        (Mechanism.NONE, _aare(1, 14), AuthError, "must authenticate"),
        (Mechanism.NONE, _aare(1, 2), WrongClientError, "context"),
        (Mechanism.NONE, _aare(1, 2, provider=True), WrongClientError, "ACSE version"),
        (Mechanism.NONE, _aare(2, 1), RefusedError, "for now"),
        (Mechanism.NONE, _aare(1, 99), WrongClientError, "diagnostic 99"),
        (Mechanism.NONE, _aare(1, 1, bytes.fromhex("0E010601")), WrongClientError, "version too low"),
        (Mechanism.NONE, _aare(0, 0, bytes.fromhex("0E010603")), WrongClientError, "PDU size too short"),
        (Mechanism.NONE, bytes.fromhex("D80102"), RefusedError, "not supported"),
        (Mechanism.NONE, bytes.fromhex("D8010600000009"), CounterTooLowError, "at least 9"),
        (Mechanism.NONE, bytes.fromhex("0E010601"), WrongClientError, "version too low"),
        (Mechanism.NONE, _aare(0, 0), FrameError, "without an initiate-response"),
        (Mechanism.NONE, b"", FrameError, "empty"),
        (Mechanism.NONE, b"\xff", FrameError, "unknown kind"),
    ],
)
def test_a_refused_association_is_told_in_words(mechanism: Mechanism, reply: bytes, error: type[Exception], words: str):
    session, _ = both(association(mechanism))
    with pytest.raises(error, match=words):
        run(session.associate(), Meter(PLAIN), late=[reply])
    assert session.state is State.IDLE


@pytest.mark.parametrize(
    ("mechanism", "diagnostic"), [(Mechanism.HIGH_GMAC, 13), (Mechanism.NONE, 13), (Mechanism.NONE, 1)]
)
def test_a_ciphered_association_that_is_refused_without_more_is_a_wrong_key(mechanism: Mechanism, diagnostic: int):
    session, _ = both(association(mechanism, Security.AUTHENTICATED_ENCRYPTED))
    with pytest.raises(WrongKeyError):
        run(session.associate(), Meter(PLAIN), late=[_aare(1, diagnostic)])


def test_our_own_system_title_is_wanted_where_it_is_part_of_the_cipher():
    with pytest.raises(ValueError, match="not 0"):
        Association(security=Security.ENCRYPTED)
    with pytest.raises(ValueError, match="not 3"):
        Association(mechanism=Mechanism.HIGH_GMAC, client_title=b"MTG")


@pytest.mark.parametrize("form", ["00 01 00 090201 02", "00 0902 0102", "0902 0102"])
def test_what_a_method_gives_back_in_blocks_is_read_in_each_form_of_the_field(form: str):
    session, meter = opened(PLAIN)
    raw = bytes.fromhex(form)

    def spoil(request: Apdu, _: Apdu) -> Apdu:
        number = getattr(request, "number", 0) + 1
        return action.ActionBlockResponse(request.invoke, number == len(raw), number, raw[number - 1 : number])

    meter = _Endless(meter)
    meter.spoil = spoil
    assert run(session.action(RECONNECT, axdr.i8(0)), meter) == axdr.octets(b"\1\2")


@pytest.mark.parametrize("mechanism", [Mechanism.HIGH, Mechanism.HIGH_ECDSA])
def test_mechanisms_that_are_not_spoken_are_refused_at_once(mechanism: Mechanism):
    with pytest.raises(ValueError, match="not supported"):
        association(mechanism)


def test_a_dedicated_key_is_never_sent_unencrypted():
    with pytest.raises(ValueError, match="must be encrypted"):
        association(security=Security.AUTHENTICATED, kind="ded")


# --- answers that are none ------------------------------------------------------------------------------------------


def test_a_late_answer_is_passed_over_by_its_invoke_id():
    session, meter = opened(PLAIN)
    late = get.GetResponse(0xCE, axdr.encode(axdr.u32(1))).to_bytes()
    pushed = DataNotification(1, b"", axdr.u8(1)).to_bytes()
    assert run(session.get(ENERGY), meter, late=[late, pushed]) == VALUES[ENERGY]


def test_late_answers_are_passed_over_only_so_often():
    session, meter = opened(PLAIN)
    late = get.GetResponse(0xCE, axdr.encode(axdr.u32(1))).to_bytes()
    with pytest.raises(FrameError, match="no answer to this request"):
        run(session.get(ENERGY), meter, late=[late] * 10)
    with pytest.raises(FrameError, match="no AARE"):
        run(both(PLAIN)[0].associate(), meter, late=[late] * 10)


def test_an_answer_of_another_service_is_no_answer():
    session, meter = opened(PLAIN)
    meter.spoil = lambda request, _: set_.SetResponse(request.invoke, DataAccessResult.SUCCESS)
    with pytest.raises(FrameError, match="SetResponse came while getting"):
        run(session.get(ENERGY), meter)
    assert session.state is State.ASSOCIATED


def test_a_plain_answer_in_a_ciphered_association_is_not_taken():
    session, meter = opened(FULL)
    meter.spoil = lambda _, answer: answer.to_bytes()
    with pytest.raises(FrameError, match="in the clear"):
        run(session.get(ENERGY), meter)


def test_an_answer_protected_less_than_agreed_is_not_taken():
    session, meter = opened(FULL)
    meter.association = association(Mechanism.HIGH_GMAC, Security.ENCRYPTED)
    with pytest.raises(FrameError, match="security control"):
        run(session.get(ENERGY), meter)


def test_a_replayed_answer_is_refused():
    session, meter = opened(FULL)
    run(session.get(ENERGY), meter)
    meter.counter -= 1
    with pytest.raises(ReplayedAnswerError):
        run(session.get(ENERGY), meter)


def test_an_answer_under_another_key_ends_the_association():
    session, meter = opened(FULL)
    meter.keys = MeterKeys(encryption=KEYS.encryption, authentication=bytes(16))
    answer = meter.seal(get.GetResponse(0xC2, b"\0").to_bytes(), 0xC8)
    # The keys have opened the AARE: no reason to think them wrong, until the next association says so.
    with pytest.raises(ChangedAnswerError):
        _send(session.get(ENERGY), answer)
    assert session.state is State.IDLE


def _send(conversation: Conversation[object], answer: bytes) -> None:
    next(conversation)
    conversation.send(answer)


def test_a_reply_beyond_the_limit_is_refused_before_it_is_read():
    session, meter = opened(PLAIN, limit=1000)
    with pytest.raises(FrameError, match="1000 are allowed"):
        run(session.get(PROFILE), meter)


def test_without_an_association_nothing_is_sent():
    session, _ = both(PLAIN)
    for conversation in (session.get(ENERGY), session.set(ENERGY, axdr.null()), session.action(RECONNECT)):
        with pytest.raises(LinkClosedError, match="while idle"):
            next(conversation)
    assert list(session.release()) == []


def test_a_lost_answer_leaves_the_association_and_a_lost_connection_ends_it():
    session, meter = opened(PLAIN)
    conversation = session.get(ENERGY)
    next(conversation)
    with pytest.raises(NoAnswerError):
        conversation.throw(NoAnswerError("silence"))
    assert run(session.get(ENERGY), meter) == VALUES[ENERGY]
    conversation = session.get(ENERGY)
    next(conversation)
    with pytest.raises(LinkClosedError):
        conversation.throw(LinkClosedError("gone"))
    assert session.state is State.IDLE


def test_release_takes_any_answer_and_none():
    for thrown in (True, False):
        session, _ = opened(FULL)
        conversation = session.release()
        next(conversation)
        with pytest.raises(StopIteration):
            conversation.throw(NoAnswerError("silence")) if thrown else conversation.send(b"?")
        assert session.state is State.IDLE


def test_secrets_are_not_shown():
    session, _ = opened(FULL)
    shown = repr(session.__dict__) + repr(acse.Aarq(acse.Context.LN, Mechanism.LOW, authentication=b"12345678"))
    assert "12345678" not in shown
    assert repr(KEYS.encryption) not in shown


# --- long transfers -------------------------------------------------------------------------------------------------


def _replace(answer: Apdu, **fields: object) -> Apdu:
    return type(answer)(**{name: fields.get(name, getattr(answer, name)) for name in answer.__struct_fields__})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"number": 2}, "block 2 came, 3 was expected"),
        ({"number": 4}, "block 4 came, 3 was expected"),
        ({"raw": b""}, "does not come to an end"),
    ],
    ids=["repeated", "lost", "empty"],
)
def test_a_wrong_block_ends_the_transfer_and_the_next_request_goes_well(change: dict[str, Any], words: str):
    session, meter = opened(FULL, block=50)

    def spoil(_: Apdu, answer: Apdu) -> Apdu:
        third = isinstance(answer, get.GetBlockResponse) and answer.number == 3
        return _replace(answer, **change) if third else answer

    meter.spoil = spoil
    with pytest.raises(BlockError, match=words):
        run(session.get(PROFILE), meter)
    assert session.state is State.ASSOCIATED
    assert run(session.get(ENERGY), meter) == VALUES[ENERGY]


def test_a_long_get_that_the_meter_breaks_off_is_told_as_such():
    session, meter = opened(FULL, block=50)
    aborted = DataAccessResult.LONG_GET_ABORTED
    for spoilt in (lambda a: get.GetResponse(a.invoke, aborted), lambda a: _replace(a, raw=aborted)):

        def spoil(_: Apdu, answer: Apdu, spoilt: Spoiler = spoilt) -> Apdu:
            return spoilt(answer) if getattr(answer, "number", 0) == 2 else answer

        meter.spoil = spoil
        with pytest.raises(RefusedError, match="broke off the long transfer") as caught:
            run(session.get(PROFILE), meter)
        assert caught.value.code == 15


def test_a_meter_that_never_ends_is_left():
    session, meter = opened(PLAIN, limit=4096)
    numbers = itertools.count(1)
    meter.spoil = lambda request, _: get.GetBlockResponse(request.invoke, last=False, number=next(numbers), raw=b"x")
    with pytest.raises(BlockError, match="does not come to an end"):
        run(session.get(PROFILE), _Endless(meter))
    assert next(numbers) < 300
    session, meter = opened(PLAIN, limit=4096)
    numbers = itertools.count(1)
    meter.spoil = lambda request, _: get.GetBlockResponse(
        request.invoke, last=False, number=next(numbers), raw=bytes(99)
    )
    with pytest.raises(FrameError, match="4096 bytes that are allowed"):
        run(session.get(PROFILE), _Endless(meter))


class _Endless(Meter):
    """Sends what its spoiler makes, whatever was asked."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter.association)
        self.spoil = meter.spoil

    def _serve(self, request: Apdu) -> Apdu:
        return request


@pytest.mark.parametrize("kind", [set_.SetBlockResponse, action.ActionNextBlockResponse])
def test_a_block_that_is_not_acknowledged_ends_the_transfer(kind: type[Apdu]):
    session, meter = opened(FULL, max_pdu=100)
    meter.spoil = lambda _, answer: _replace(answer, number=7) if isinstance(answer, kind) else answer
    value = axdr.octets(bytes(300))
    conversation = session.set(ENERGY, value) if kind is set_.SetBlockResponse else session.action(RECONNECT, value)
    with pytest.raises(BlockError, match="acknowledges block 7, 1 was sent"):
        run(conversation, meter)
    assert session.state is State.ASSOCIATED


def test_a_long_set_that_the_meter_breaks_off_is_told_as_such():
    session, meter = opened(FULL, max_pdu=100)
    meter.spoil = lambda _, answer: set_.SetResponse(answer.invoke, DataAccessResult.LONG_SET_ABORTED)
    with pytest.raises(RefusedError, match="long set aborted"):
        run(session.set(ENERGY, axdr.octets(bytes(300))), meter)


@pytest.mark.parametrize("joined", ["0100", "0200", "0300", "03010103"])
def test_a_refused_method_whose_answer_comes_in_blocks_is_never_taken_for_done(joined: str):
    session, meter = opened(PLAIN)
    raw = bytes.fromhex(joined)
    meter.spoil = lambda request, _: action.ActionBlockResponse(request.invoke, last=True, number=1, raw=raw)
    with pytest.raises(RefusedError):
        run(session.action(RECONNECT, axdr.i8(0)), meter)


@pytest.mark.parametrize("kind", [set_.SetFirstBlockRequest, action.ActionFirstBlockRequest])
def test_a_meter_that_says_done_before_it_has_every_block_is_not_believed(kind: type[Apdu]):
    session, meter = opened(PLAIN, max_pdu=100)

    def spoil(request: Apdu, good: Apdu) -> Apdu:
        if isinstance(request, set_.SetFirstBlockRequest):
            return set_.SetResponse(request.invoke, DataAccessResult.SUCCESS)
        if isinstance(request, action.ActionFirstBlockRequest):
            return action.ActionResponse(request.invoke, ActionResult.SUCCESS, None)
        return good

    meter.spoil = spoil
    long = axdr.octets(bytes(300))
    with pytest.raises(BlockError):
        run(session.set(ENERGY, long) if kind is set_.SetFirstBlockRequest else session.action(RECONNECT, long), meter)


def test_a_refusal_before_the_last_block_is_told_with_its_reason():
    session, meter = opened(PLAIN, max_pdu=100)
    meter.spoil = lambda request, good: (
        set_.SetLastBlockResponse(request.invoke, DataAccessResult.READ_WRITE_DENIED, 1)
        if isinstance(request, set_.SetFirstBlockRequest)
        else good
    )
    with pytest.raises(RefusedError) as caught:
        run(session.set(ENERGY, axdr.octets(bytes(300))), meter)
    assert caught.value.code == DataAccessResult.READ_WRITE_DENIED
