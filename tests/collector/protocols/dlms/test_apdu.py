"""Every APDU type by chance and back, tables of bytes of those that no known frame shows, and refusals in words."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms import acse, action, axdr, get
from collector.protocols.dlms import set as set_
from collector.protocols.dlms.acse import Conformance, Context, Mechanism
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.cursor import Cursor
from collector.protocols.dlms.failures import ConfirmedServiceError, ExceptionResponse
from collector.protocols.dlms.invoke import Apdu, invoke_id, invoke_octet
from collector.protocols.dlms.notification import DataNotification, EventNotification
from collector.protocols.dlms.references import Access, ActionResult, Attribute, DataAccessResult, Method
from metering.errors import FrameError

U8, U16, U32 = st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**32 - 1)
OBIS = st.lists(U8, min_size=6, max_size=6).map(lambda g: f"{g[0]}-{g[1]}:{g[2]}.{g[3]}.{g[4]}*{g[5]}")
ATTRIBUTE = st.builds(Attribute, U16, OBIS, st.integers(-128, 127))
METHOD = st.builds(Method, U16, OBIS, st.integers(-128, 127))
DATA = st.recursive(
    st.one_of(st.just(axdr.null()), U16.map(axdr.u16), st.binary(max_size=200).map(axdr.octets)),
    lambda inner: st.lists(inner, max_size=4).map(lambda items: axdr.structure(*items)),
    max_leaves=6,
)
ACCESS = st.none() | st.builds(Access, U8, DATA)
RAW = st.binary(max_size=300)
TARGETS = st.lists(st.tuples(ATTRIBUTE, ACCESS), max_size=4).map(tuple)
METHODS = st.lists(METHOD, max_size=4).map(tuple)
RESULT = st.sampled_from(DataAccessResult)
OUTCOME = st.tuples(st.sampled_from(ActionResult), st.none() | DATA | RESULT)
LAST = st.booleans()
TITLE = st.just(b"") | st.binary(min_size=8, max_size=8)
SECRET = st.binary(min_size=1, max_size=64)
CONFORMANCE = st.integers(0, 2**24 - 1).map(Conformance)
QUALITY = st.none() | st.integers(-128, 127)
MECHANISM = st.sampled_from(Mechanism).filter(lambda mechanism: mechanism is not Mechanism.NONE)

APDUS = st.one_of(
    st.builds(get.GetRequest, U8, ATTRIBUTE, ACCESS),
    st.builds(get.GetNextRequest, U8, U32),
    st.builds(get.GetListRequest, U8, TARGETS),
    st.builds(get.GetResponse, U8, DATA.map(axdr.encode) | RESULT),
    st.builds(get.GetBlockResponse, U8, LAST, U32, RAW | RESULT),
    st.builds(get.GetListResponse, U8, st.lists(DATA | RESULT, max_size=4).map(tuple)),
    st.builds(set_.SetRequest, U8, ATTRIBUTE, ACCESS, DATA),
    st.builds(set_.SetFirstBlockRequest, U8, ATTRIBUTE, ACCESS, LAST, U32, RAW),
    st.builds(set_.SetBlockRequest, U8, LAST, U32, RAW),
    TARGETS.flatmap(
        lambda targets: st.builds(
            set_.SetListRequest,
            U8,
            st.just(targets),
            st.lists(DATA, min_size=len(targets), max_size=len(targets)).map(tuple),
        )
    ),
    st.builds(set_.SetListFirstBlockRequest, U8, TARGETS, LAST, U32, RAW),
    st.builds(set_.SetResponse, U8, RESULT),
    st.builds(set_.SetBlockResponse, U8, U32),
    st.builds(set_.SetLastBlockResponse, U8, RESULT, U32),
    st.builds(set_.SetLastListBlockResponse, U8, st.lists(RESULT, max_size=5).map(tuple), U32),
    st.builds(set_.SetListResponse, U8, st.lists(RESULT, max_size=5).map(tuple)),
    st.builds(action.ActionRequest, U8, METHOD, st.none() | DATA),
    st.builds(action.ActionNextBlockRequest, U8, U32),
    METHODS.flatmap(
        lambda methods: st.builds(
            action.ActionListRequest,
            U8,
            st.just(methods),
            st.lists(DATA, min_size=len(methods), max_size=len(methods)).map(tuple),
        )
    ),
    st.builds(action.ActionFirstBlockRequest, U8, METHOD, LAST, U32, RAW),
    st.builds(action.ActionListFirstBlockRequest, U8, METHODS, LAST, U32, RAW),
    st.builds(action.ActionBlockRequest, U8, LAST, U32, RAW),
    OUTCOME.flatmap(lambda outcome: st.builds(action.ActionResponse, U8, st.just(outcome[0]), st.just(outcome[1]))),
    st.builds(action.ActionBlockResponse, U8, LAST, U32, RAW),
    st.builds(action.ActionListResponse, U8, st.lists(OUTCOME, max_size=4).map(tuple)),
    st.builds(action.ActionNextBlockResponse, U8, U32),
    st.builds(DataNotification, U32, st.just(b"") | st.binary(min_size=12, max_size=12), DATA),
    st.builds(EventNotification, st.just(b"") | st.binary(min_size=12, max_size=12), ATTRIBUTE, DATA),
    st.builds(ExceptionResponse, U8, st.integers(1, 5)),
    st.builds(ExceptionResponse, U8, st.just(6), st.none() | U32),
    st.builds(ConfirmedServiceError, U8, U8, U8),
    st.builds(acse.Aarq, st.sampled_from(Context), st.just(Mechanism.NONE), TITLE, st.just(b""), RAW),
    st.builds(acse.Aarq, st.sampled_from(Context), MECHANISM, TITLE, SECRET, RAW),
    st.builds(acse.Aare, st.sampled_from(Context), U8, U8, st.booleans(), TITLE, MECHANISM, SECRET, RAW),
    st.builds(acse.Aare, st.sampled_from(Context), U8, U8, st.booleans(), TITLE),
    st.builds(acse.Rlrq, st.none() | U8, RAW),
    st.builds(acse.Rlre, st.none() | U8, RAW),
    st.builds(
        acse.InitiateRequest,
        CONFORMANCE,
        U16,
        st.just(b"") | st.binary(min_size=16, max_size=16),
        st.booleans(),
        QUALITY,
        U8,
    ),
    st.builds(acse.InitiateResponse, CONFORMANCE, U16, QUALITY, U8, U16),
)


@given(APDUS)
def test_every_apdu_comes_back(apdu: Apdu):
    assert parse_apdu(apdu.to_bytes()) == apdu


@given(APDUS, st.data())
def test_no_truncation_raises_anything_but_a_frame_error(apdu: Apdu, data: st.DataObject):
    octets = apdu.to_bytes()
    cut = octets[: data.draw(st.integers(0, len(octets) - 1))]
    try:
        shorter = parse_apdu(cut)
    except FrameError:
        return
    # Only what carries bytes that are not looked into may be shorter and whole.
    assert isinstance(shorter, get.GetResponse | ExceptionResponse)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_apdu_or_a_frame_error(octets: bytes):
    found: Apdu | None = None
    with contextlib.suppress(FrameError):
        found = parse_apdu(octets)
    assert found is None or isinstance(found.to_bytes(), bytes)


ENERGY = Attribute(3, "1-0:1.8.0*255", 2)
CONNECT = Method(70, "0-0:96.3.10*255", 2)
TABLE = [
    ("C002C100000001", get.GetNextRequest(0xC1, 1)),
    ("C402C10000000001000411223344", get.GetBlockResponse(0xC1, last=False, number=1, raw=b"\x11\x22\x33\x44")),
    ("C402C10100000002010F", get.GetBlockResponse(0xC1, last=True, number=2, raw=DataAccessResult.LONG_GET_ABORTED)),
    ("C403C102001101010B", get.GetListResponse(0xC1, (axdr.u8(1), DataAccessResult.OBJECT_UNAVAILABLE))),
    ("C101C100030100010800FF02001101", set_.SetRequest(0xC1, ENERGY, None, axdr.u8(1))),
    (
        "C102C100030100010800FF02000000000001021101",
        set_.SetFirstBlockRequest(0xC1, ENERGY, None, last=False, number=1, raw=b"\x11\x01"),
    ),
    ("C103C10100000002021101", set_.SetBlockRequest(0xC1, last=True, number=2, raw=b"\x11\x01")),
    ("C104C10100030100010800FF0200011101", set_.SetListRequest(0xC1, ((ENERGY, None),), (axdr.u8(1),))),
    ("C502C100000001", set_.SetBlockResponse(0xC1, 1)),
    ("C503C10000000002", set_.SetLastBlockResponse(0xC1, DataAccessResult.SUCCESS, 2)),
    ("C505C1020003", set_.SetListResponse(0xC1, (DataAccessResult.SUCCESS, DataAccessResult.READ_WRITE_DENIED))),
    ("C302C100000001", action.ActionNextBlockRequest(0xC1, 1)),
    (
        "C304C10046000060030AFF020000000001020F00",
        action.ActionFirstBlockRequest(0xC1, CONNECT, last=False, number=1, raw=b"\x0f\x00"),
    ),
    ("C306C10100000002020F00", action.ActionBlockRequest(0xC1, last=True, number=2, raw=b"\x0f\x00")),
    ("C701C10000", action.ActionResponse(0xC1, ActionResult.SUCCESS)),
    ("C701C10001000F00", action.ActionResponse(0xC1, ActionResult.SUCCESS, axdr.i8(0))),
    ("C701C100010103", action.ActionResponse(0xC1, ActionResult.SUCCESS, DataAccessResult.READ_WRITE_DENIED)),
    ("C702C1010000000100", action.ActionBlockResponse(0xC1, last=True, number=1, raw=b"")),
    ("C704C100000001", action.ActionNextBlockResponse(0xC1, 1)),
    ("0F00000001001101", DataNotification(1, b"", axdr.u8(1))),
    ("C20000030100010800FF021101", EventNotification(b"", ENERGY, axdr.u8(1))),
    ("D80102", ExceptionResponse(1, 2)),
    ("D8010600000309", ExceptionResponse(1, 6, 777)),
    ("0E010601", ConfirmedServiceError(1, 6, 1)),
    ("6203800100", acse.Rlrq()),
    ("6200", acse.Rlrq(None)),
    ("6303800100", acse.Rlre()),
]


@pytest.mark.parametrize(("text", "apdu"), TABLE)
def test_the_standards_forms_read_and_are_written(text: str, apdu: Apdu):
    assert parse_apdu(bytes.fromhex(text)) == apdu
    assert apdu.to_bytes() == bytes.fromhex(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty APDU"),
        ("D90000000100", "access-request"),
        ("DA0000000100", "access-response"),
        ("E080000100", "general-block-transfer"),
        ("DD00", "general-ciphering"),
        ("C800", "glo-get-request"),
        ("0C00", "short names"),
        ("99", "unknown kind"),
        ("C004C1", "kind 4"),
        ("C404C1", "kind 4"),
        ("C106C1", "kind 6"),
        ("C506C1", "kind 6"),
        ("C307C1", "kind 7"),
        ("C705C1", "kind 5"),
        ("C401C10200", "neither data"),
        ("C701C1000102", "neither data"),
        ("C403C1840FFFFFFF", "elements"),
        ("C104C10100030100010800FF020000", "1 attributes and 0 values"),
        ("C303C10100460000 60030AFF0100", "1 methods, 0 parameters"),
        ("D80109", "reason 9"),
        ("6100", "without result"),
        ("6000", "without an application context"),
        ("600BA109060760857405080105", "no context of DLMS"),
        ("600BA10906076085740508 0201", "no context of DLMS"),
        ("6016A109060760857405080101A109060760857405080101", "twice"),
        ("6103A20100A30100", "bytes too many"),
    ],
)
def test_what_is_not_spoken_or_broken_is_told(text: str, words: str):
    with pytest.raises(FrameError, match=words):
        parse_apdu(bytes.fromhex(text))


def test_a_conformance_whose_tag_is_one_octet_is_read():
    assert acse.parse_initiate_request(bytes.fromhex("01000000065F0400007E1F04B0")).max_pdu == 1200


def test_unknown_results_are_another_reason():
    assert parse_apdu(bytes.fromhex("C501C177")) == set_.SetResponse(0xC1, DataAccessResult.OTHER_REASON)


def test_failures_say_what_they_mean():
    assert ExceptionResponse(1, 2).words == "service not supported (service not allowed)"
    assert ExceptionResponse(9, 3).words == "other reason (state 9)"
    assert ConfirmedServiceError(1, 6, 1).words == "initiate failed: DLMS version too low (initiate)"
    assert ConfirmedServiceError(99, 88, 77).words == "service 99 failed: code 77 (error 88)"


def test_the_octet_of_invoke_id_and_priority():
    assert invoke_octet(1) == 0xC1
    assert invoke_octet(15, confirmed=False, high=False) == 0x0F
    assert invoke_id(0xC1) == 1


def test_a_cursor_reads_no_further_than_there_is():
    cursor = Cursor(b"\1\2\3")
    assert cursor.u8() == 1
    with pytest.raises(FrameError, match="4 bytes wanted, 2 left"):
        cursor.u32()
    assert cursor.rest() == b"\2\3"
