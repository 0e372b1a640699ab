"""Known DLMS frames, both ways: what each says, its bytes again, and no truncation of one that passes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.protocols.dlms import acse, action, axdr, ciphering, get, hls
from collector.protocols.dlms import set as set_
from collector.protocols.dlms.acse import Aare, Aarq, parse_initiate_request, parse_initiate_response
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.axdr import decode_all
from collector.protocols.dlms.clock import parse_datetime, to_utc
from collector.protocols.dlms.failures import INITIATE_ERROR, parse_confirmed_service_error
from collector.protocols.dlms.references import Attribute, CaptureObject, DataAccessResult, Method
from metering.errors import FrameError

Vector = dict[str, Any]
VECTORS: dict[str, Vector] = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parents[3] / "vectors" / "dlms.json").read_text())
    if vector["protocol"].startswith("dlms")
}
PLAIN = [vector for name, vector in VECTORS.items() if vector["protocol"] == "dlms-apdu" and "glo-" not in name]
named = pytest.mark.parametrize("vector", PLAIN, ids=lambda vector: vector["name"])


def frame_of(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name]["hex"])


def expected_of(name: str) -> Vector:
    return VECTORS[name]["expected"]


@named
def test_every_plain_vector_reads_and_is_built_again(vector: Vector):
    frame = bytes.fromhex(vector["hex"])
    assert parse_apdu(frame).to_bytes() == frame


@named
def test_the_acse_vectors_say_what_is_expected(vector: Vector):
    expected, apdu = vector["expected"], parse_apdu(bytes.fromhex(vector["hex"]))
    if isinstance(apdu, Aare):
        assert (apdu.result, apdu.diagnostic) == (expected["result"], expected["diagnostic"])
        if "confirmed_service_error" in expected:
            error = parse_confirmed_service_error(apdu.user_information)
            wanted = expected["confirmed_service_error"]
            assert (error.service, error.kind, error.value) == (INITIATE_ERROR, wanted["choice"], wanted["value"])
            assert error.to_bytes() == apdu.user_information
            return
        response = parse_initiate_response(apdu.user_information)
        assert response.to_bytes() == apdu.user_information
        assert response.max_pdu == expected["server_max_pdu"]
        assert f"{int(response.conformance):06X}" == expected["conformance_hex"]
        assert response.version == expected.get("dlms_version", 6)
        assert response.vaa_name == expected.get("vaa_name", 7)
        assert apdu.context == expected.get("application_context", 1)
    if isinstance(apdu, Aarq):
        request = parse_initiate_request(apdu.user_information)
        assert request.to_bytes() == apdu.user_information
        assert request.max_pdu == expected["client_max_pdu"]
        assert apdu.mechanism == expected["mechanism"]
        assert apdu.authentication.hex().upper() == expected.get("calling_authentication_value", "")
        if "conformance_hex" in expected:
            assert f"{int(request.conformance):06X}" == expected["conformance_hex"]


def test_the_ciphered_clock_request_opens_and_is_sealed_again():
    name = "glo-get-request of clock time"
    vector, expected = VECTORS[name], expected_of(name)
    keys = {key: bytes.fromhex(value) for key, value in vector["keys"].items()}
    closed = ciphering.parse_ciphered(frame_of(name))
    assert (closed.tag, closed.control, closed.counter) == (
        expected["tag"],
        expected["security_control"],
        expected["invocation_counter"],
    )
    arguments = (closed.control, keys["encryption_key"], keys["authentication_key"], keys["system_title"])
    plain = ciphering.unprotect(*arguments, closed.counter, closed.content)
    assert plain.hex().upper() == expected["plaintext"]
    assert parse_apdu(plain) == get.GetRequest(0, Attribute(8, expected["obis"], 2))
    content = ciphering.protect(*arguments, closed.counter, plain)
    assert ciphering.build_ciphered(closed._replace(content=content)) == frame_of(name)


def test_the_answer_to_a_challenge_by_gmac_is_the_known_one():
    name = "HLS-GMAC client reply f(StoC)"
    vector, expected = VECTORS[name], expected_of(name)
    key, ak = (bytes.fromhex(vector["keys"][part]) for part in ("encryption_key", "authentication_key"))
    title, challenge = bytes.fromhex(expected["system_title"]), bytes.fromhex(expected["challenge_StoC"])
    assert hls.gmac_answer(key, ak, title, expected["invocation_counter"], challenge) == frame_of(name)
    assert hls.check_gmac(frame_of(name), key, ak, title, challenge) == expected["invocation_counter"]
    for length in range(len(frame_of(name))):
        with pytest.raises(FrameError):
            hls.check_gmac(frame_of(name)[:length], key, ak, title, challenge)


def test_the_register_answer_is_its_value():
    response = parse_apdu(frame_of("get-response-normal double-long-unsigned"))
    assert response == get.GetResponse(0xC1, axdr.encode(axdr.u32(5009)))


def test_the_list_request_names_device_and_clock():
    name = "get-request-with-list device name and clock"
    targets = tuple((Attribute(**item), None) for item in expected_of(name)["items"])
    assert parse_apdu(frame_of(name)) == get.GetListRequest(0xC1, targets)


def test_the_profile_answer_is_its_rows():
    name = "get-response profile buffer with null-data timestamps"
    response, expected = parse_apdu(frame_of(name)), expected_of(name)
    assert isinstance(response, get.GetResponse)
    rows = decode_all(response.data).value
    cells = [[cell.value for cell in row.value] for row in rows]
    values = [[cell.hex().upper() if isinstance(cell, bytes) else cell for cell in row] for row in cells]
    assert values == [[*row] for row in expected["rows_raw"]]
    first = parse_datetime(rows[0].value[0].value)
    assert first.deviation == expected["raw_deviation_minutes"]
    assert str(first).replace(" ", "T") == expected["rows_time_local"][0]
    assert to_utc(first) == 1_577_829_600_000_000  # 2019-12-31T22:00:00Z
    for text in expected["capture_objects"]:
        class_id, obis, attribute = text.split()
        column = CaptureObject(int(class_id), obis, int(attribute))
        assert CaptureObject.of(column.to_data()) == column


def test_the_disconnect_is_a_method_with_its_parameter():
    request = parse_apdu(frame_of("action-request remote_disconnect (class 70 method 1)"))
    assert request == action.ActionRequest(0xC1, Method(70, "0-0:96.3.10*255", 1), axdr.i8(0))


def test_the_set_answer_is_success():
    assert parse_apdu(frame_of("set-response success")) == set_.SetResponse(0xC1, DataAccessResult.SUCCESS)


def _everything(frame: bytes) -> None:
    """Read an APDU and what it carries."""
    if frame[0] in ciphering.CIPHERED_TAGS:
        ciphering.parse_ciphered(frame)
        return
    apdu = parse_apdu(frame)
    if isinstance(apdu, get.GetResponse) and isinstance(apdu.data, bytes):
        decode_all(apdu.data)


@pytest.mark.parametrize("name", [name for name in VECTORS if VECTORS[name]["protocol"] == "dlms-apdu"])
def test_every_truncation_of_a_vector_is_a_frame_error(name: str):
    frame = frame_of(name)
    _everything(frame)
    for length in range(1, len(frame)):
        with pytest.raises(FrameError):
            _everything(frame[:length])
    with pytest.raises(FrameError):
        parse_apdu(b"")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("AARE LN no security, accepted", lambda apdu: parse_initiate_response(acse.parse_aare(apdu).user_information)),
        ("AARQ lowest security", lambda apdu: parse_initiate_request(acse.parse_aarq(apdu).user_information)),
    ],
)
def test_every_truncation_of_an_initiate_apdu_is_a_frame_error(name: str, read: Callable[[bytes], Any]):
    whole = read(frame_of(name)).to_bytes()
    reader = parse_initiate_response if whole[0] == acse.INITIATE_RESPONSE else parse_initiate_request
    for length in range(len(whole)):
        with pytest.raises(FrameError):
            reader(whole[:length])


@named
def test_a_byte_behind_a_vector_is_a_frame_error(vector: Vector):
    with pytest.raises(FrameError):
        _everything(bytes.fromhex(vector["hex"]) + b"\0")
