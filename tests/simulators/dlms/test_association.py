"""Associations with a simulated DLMS meter, opened by our own client: every kind, and every way to be refused."""

from collections.abc import Callable
from typing import Any

import pytest

from collector.keys import MeterKeys
from collector.protocols.conversation import Conversation
from collector.protocols.dlms import acse, axdr, failures
from collector.protocols.dlms.acse import AssociationResult, Context, Diagnostic, Mechanism
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.association import Association as Wanted
from collector.protocols.dlms.association import Ciphering, Security
from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.ciphering import wrap_key
from collector.protocols.dlms.errors import CounterTooLowError, WrongClientError, WrongKeyError, WrongPasswordError
from collector.protocols.dlms.get import GetRequest
from collector.protocols.dlms.references import Attribute, Method
from metering.errors import AuthError, RefusedError
from simulators.dlms_association import Association, State
from simulators.dlms_meter import DlmsSettings
from simulators.dlms_security import (
    BOTH,
    GMAC_CLIENT,
    MANAGEMENT,
    MD5_CLIENT,
    PUBLIC,
    READER,
    SHA1_CLIENT,
    SHA256_CLIENT,
    TEST_SECRET,
    AccessSettings,
    Client,
)
from simulators.dlms_security import test_keys as keys_of_tests

Bench = Any
Make = Callable[..., Any]

TITLE = b"MGTGTW01"
REGISTER = Attribute(3, "1-0:1.8.0*255", 2)
SERIAL = Attribute(1, "0-0:96.1.0*255", 2)
CLIENTS = {
    Mechanism.NONE: 17,
    Mechanism.LOW: READER,
    Mechanism.HIGH_MD5: MD5_CLIENT,
    Mechanism.HIGH_SHA1: SHA1_CLIENT,
    Mechanism.HIGH_GMAC: GMAC_CLIENT,
    Mechanism.HIGH_SHA256: SHA256_CLIENT,
}

# A dedicated key is sent to the meter, so it needs encryption.
KINDS = [
    (Security.NONE, "glo"),
    *((Security.AUTHENTICATED, name) for name in ("glo", "general-glo")),
    *((Security.ENCRYPTED, name) for name in ("glo", "ded", "general-glo", "general-ded")),
    *((Security.AUTHENTICATED_ENCRYPTED, name) for name in ("glo", "ded", "general-glo", "general-ded")),
]


def keys_for(mechanism: Mechanism, **other: bytes) -> MeterKeys:
    keys = keys_of_tests()
    if mechanism not in (Mechanism.LOW, Mechanism.NONE):
        keys.password = TEST_SECRET
    for name, value in other.items():
        setattr(keys, name, value)
    return keys


@pytest.fixture
def open_bench(make: Make):
    """A meter that a client 17 without authentication may read, too."""
    access = AccessSettings((*AccessSettings().clients, Client(17)))
    return make(DlmsSettings(history=False, access=access))


@pytest.mark.parametrize(("security", "ciphering"), KINDS)
@pytest.mark.parametrize("mechanism", CLIENTS)
def test_every_kind_of_association_reads_and_ends(
    open_bench: Bench, mechanism: Mechanism, security: Security, ciphering: Ciphering
):
    wanted = Wanted(CLIENTS[mechanism], mechanism=mechanism, security=security, ciphering=ciphering, client_title=TITLE)
    talk = open_bench.talk(wanted, keys=keys_for(mechanism))
    meter = open_bench.meter
    assert talk.do(talk.session.get(REGISTER)) == meter.registers.value(REGISTER.obis, open_bench.clock.now)
    found = talk.do(talk.session.get_list([SERIAL, REGISTER]))
    assert found[0].value == b"10000001"
    assert talk.session.negotiated.server_title == (meter.title if security or mechanism >= 5 else b"")
    if security & Security.ENCRYPTED:
        assert not any(b"10000001" in heard for heard in open_bench.heard)
    talk.do(talk.session.release())
    assert talk.association.state is State.CLOSED
    assert meter.security.attempts == {}


def test_a_whole_profile_comes_in_blocks_that_end_within_rows(make: Make):
    for size in (None, 100, 37):
        settings = DlmsSettings(history=False, access=AccessSettings(block_size=size))
        talk = make(settings).talk(Wanted(READER, mechanism=Mechanism.LOW, max_pdu=500))
        rows = talk.do(talk.session.get(Attribute(7, "1-0:99.2.0*255", 2))).value
        assert len(rows) == 60
        assert all(len(heard) <= 500 for heard in talk.bench.heard)


@pytest.mark.parametrize(
    ("client", "mechanism", "password", "error"),
    [
        (99, Mechanism.NONE, b"", WrongClientError),
        (READER, Mechanism.NONE, b"", AuthError),
        (READER, Mechanism.LOW, b"87654321", WrongPasswordError),
        (SHA1_CLIENT, Mechanism.HIGH_SHA1, b"another secret", WrongPasswordError),
    ],
)
def test_a_wrong_client_or_password_is_refused_at_the_door(
    bench: Bench, client: int, mechanism: Mechanism, password: bytes, error: type[Exception]
):
    with pytest.raises(error):
        bench.talk(Wanted(client, mechanism=mechanism, client_title=TITLE), keys=keys_for(mechanism, password=password))
    assert bench.meter.security.attempts.get(client, 0) == (1 if password else 0)


@pytest.mark.parametrize(
    ("aarq", "diagnostic"),
    [
        (acse.Aarq(Context.LN_CIPHERED), Diagnostic.CONTEXT_NOT_SUPPORTED),
        (acse.Aarq(Context.SN), Diagnostic.CONTEXT_NOT_SUPPORTED),
        (acse.Aarq(Context.LN, Mechanism.LOW, authentication=b"1"), Diagnostic.MECHANISM_NOT_RECOGNIZED),
        (acse.Aarq(Context.LN, user_information=b"\x01"), Diagnostic.NO_REASON),
    ],
)
def test_the_answer_names_what_is_wrong_with_the_request(bench: Bench, aarq: acse.Aarq, diagnostic: Diagnostic):
    answer = acse.parse_aare(Association(bench.meter, PUBLIC).serve(aarq.to_bytes(), bench.clock.now))
    assert (answer.result, answer.diagnostic) == (AssociationResult.REJECTED_PERMANENT, diagnostic)


@pytest.mark.parametrize(
    ("request_", "value"),
    [
        (acse.InitiateRequest(acse.Conformance.GET, 500, version=5), 1),
        (acse.InitiateRequest(acse.Conformance(0), 500), 2),
        (acse.InitiateRequest(acse.Conformance.GET, 11), 3),
    ],
)
def test_an_initiate_request_that_does_not_fit_is_a_confirmed_service_error(
    bench: Bench, request_: acse.InitiateRequest, value: int
):
    aarq = acse.Aarq(Context.LN, user_information=request_.to_bytes())
    answer = acse.parse_aare(Association(bench.meter, PUBLIC).serve(aarq.to_bytes(), bench.clock.now))
    assert failures.parse_confirmed_service_error(answer.user_information) == failures.ConfirmedServiceError(
        1, 6, value
    )


@pytest.mark.parametrize("name", ["encryption", "authentication"])
@pytest.mark.parametrize("client", [GMAC_CLIENT, MANAGEMENT])
def test_a_wrong_key_is_told_as_one_and_counted(bench: Bench, client: int, name: str):
    security = Security.AUTHENTICATED_ENCRYPTED if client == MANAGEMENT else Security.NONE
    wanted = Wanted(client, mechanism=Mechanism.HIGH_GMAC, security=security, client_title=TITLE)
    keys = keys_for(Mechanism.HIGH_GMAC, **{name: bytes(16)})
    with pytest.raises((WrongKeyError, WrongPasswordError)):
        bench.talk(wanted, keys=keys)
    assert bench.meter.security.attempts == {client: 1}
    bench.talk(wanted, keys=keys_for(Mechanism.HIGH_GMAC), start=100)


def test_after_so_many_failures_the_client_is_locked_out_for_its_time(make: Make):
    bench = make(DlmsSettings(access=AccessSettings(lock_after=3, lock_s=600)))
    told: list[int] = []
    bench.meter.security.told = lambda _, client: told.append(client)
    wanted = Wanted(READER, mechanism=Mechanism.LOW)
    for _ in range(3):
        with pytest.raises(WrongPasswordError):
            bench.talk(wanted, keys=keys_for(Mechanism.LOW, password=b"x"))
    assert told == [READER]
    with pytest.raises(AuthError):
        bench.talk(wanted)
    bench.clock.now += 601_000_000
    bench.talk(wanted)
    assert bench.meter.security.attempts == {READER: 3}


def test_a_counter_that_was_there_before_is_refused_with_the_expected_one(bench: Bench):
    wanted = Wanted(MANAGEMENT, mechanism=Mechanism.HIGH_GMAC, security=Security(BOTH), client_title=TITLE)
    talk = bench.talk(wanted, start=500)
    expected = bench.meter.security.expected[MANAGEMENT]
    assert expected > 500
    shown = bench.talk(Wanted(PUBLIC))
    assert shown.do(shown.session.get(Attribute(1, "0-0:43.1.0*255", 2))).value == expected
    with pytest.raises(CounterTooLowError) as caught:
        bench.talk(wanted, start=expected - 1)
    assert caught.value.expected == expected
    replayed = talk.association.serve(bench.sent[1], bench.clock.now)
    assert parse_apdu(replayed) == failures.ExceptionResponse(1, failures.COUNTER_ERROR, expected)
    assert bench.meter.security.refusals == 2
    assert bench.meter.security.attempts == {}
    bench.talk(wanted, start=expected)


def test_less_protection_than_the_policy_wants_is_refused(bench: Bench):
    for security in (Security.AUTHENTICATED, Security.ENCRYPTED):
        wanted = Wanted(MANAGEMENT, mechanism=Mechanism.HIGH_GMAC, security=security, client_title=TITLE)
        with pytest.raises((RefusedError, AuthError)):
            bench.talk(wanted)


def test_a_plain_request_in_a_ciphered_association_is_refused(bench: Bench):
    wanted = Wanted(MANAGEMENT, mechanism=Mechanism.HIGH_GMAC, security=Security(BOTH), client_title=TITLE)
    talk = bench.talk(wanted)
    plain = GetRequest(0xC1, REGISTER).to_bytes()
    assert parse_apdu(talk.association.serve(plain, bench.clock.now)).state == failures.NOT_ALLOWED
    closed = Association(bench.meter, READER)
    assert parse_apdu(closed.serve(plain, bench.clock.now)).state == failures.NOT_ALLOWED


def test_nothing_is_served_before_the_client_has_proven_itself(bench: Bench):
    association = Association(bench.meter, SHA1_CLIENT)
    initiate = acse.InitiateRequest(acse.Conformance.GET, 500).to_bytes()
    aarq = acse.Aarq(Context.LN, Mechanism.HIGH_SHA1, authentication=bytes(16), user_information=initiate)
    answer = acse.parse_aare(association.serve(aarq.to_bytes(), bench.clock.now))
    assert (answer.result, answer.diagnostic) == (0, Diagnostic.AUTHENTICATION_REQUIRED)
    assert len(answer.authentication) == 16
    reply = parse_apdu(association.serve(GetRequest(0xC1, REGISTER).to_bytes(), bench.clock.now))
    assert isinstance(reply, failures.ExceptionResponse)


def test_a_request_longer_than_the_meter_takes_and_one_that_is_no_request(bench: Bench):
    talk = bench.talk(Wanted(PUBLIC))
    for sent, reason in [(bytes(1025), failures.PDU_TOO_LONG), (b"\xd9\x00", failures.NOT_SUPPORTED)]:
        answer = parse_apdu(talk.association.serve(sent, bench.clock.now))
        assert isinstance(answer, failures.ExceptionResponse)
        assert answer.service == reason


def test_keys_are_changed_by_the_master_key_and_only_by_it(bench: Bench):
    wanted = Wanted(MANAGEMENT, mechanism=Mechanism.HIGH_GMAC, security=Security(BOTH), client_title=TITLE)
    talk = bench.talk(wanted)
    method = Method(64, "0-0:43.0.0*255", 2)
    fresh, master = bytes(range(16, 32)), keys_of_tests().master

    def transfer(kek: bytes) -> Conversation[Data | None]:
        pair = axdr.structure(axdr.enum_(0), axdr.octets(wrap_key(kek, fresh)))
        return talk.session.action(method, axdr.array(pair))

    with pytest.raises(RefusedError):
        talk.do(transfer(bytes(16)))
    assert bench.meter.security.keys.encryption == keys_of_tests().encryption
    talk.do(transfer(master))
    bench.talk(wanted, keys=keys_for(Mechanism.HIGH_GMAC, encryption=fresh))


def test_a_value_goes_in_blocks_and_lists_have_a_result_each(make: Make):
    bench = make(DlmsSettings(history=False, access=AccessSettings(max_pdu=64)))
    talk = bench.talk(Wanted(SHA1_CLIENT, mechanism=Mechanism.HIGH_SHA1), keys=keys_for(Mechanism.HIGH_SHA1))
    groups = axdr.array(*(axdr.u16(number) for number in range(60)))
    talk.do(talk.session.set(Attribute(71, "0-0:17.0.0*255", 9), groups))
    assert bench.meter.limiter.groups == tuple(range(60))
    assert sum(sent[0] == 0xC1 for sent in bench.sent) > 3
    results = talk.do(talk.session.get_list([SERIAL, Attribute(3, "1-0:99.8.0*255", 2)]))
    assert [getattr(result, "tag", result) for result in results] == [Tag.OCTET_STRING, 4]


def test_secrets_are_in_no_repr(bench: Bench):
    words = repr(bench.meter.settings) + repr(bench.meter.security.settings) + repr(Client(1, secret=b"hush-hush"))
    for secret in (b"hush-hush", TEST_SECRET, keys_of_tests().password):
        assert repr(secret)[2:-1] not in words
    assert keys_of_tests().encryption.hex() not in words
