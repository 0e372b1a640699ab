"""Ciphered APDUs, answers to challenges and wrapped keys: the vectors both ways, and nothing changed that opens."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms import hls
from collector.protocols.dlms.ciphering import (
    GENERAL_DED,
    GENERAL_GLO,
    PLAIN_OF_DED,
    PLAIN_OF_GLO,
    Ciphered,
    build_ciphered,
    ded_tag,
    glo_tag,
    gmac,
    parse_ciphered,
    protect,
    unprotect,
    unwrap_key,
    wrap_key,
)
from collector.protocols.dlms.errors import WrongKeyError, WrongPasswordError
from metering.errors import AuthError, FrameError, MeterError

VECTORS = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parents[3] / "vectors" / "dlms.json").read_text())
    if "keys" in vector
}
GET = VECTORS["glo-get-request of clock time"]
GMAC = VECTORS["HLS-GMAC client reply f(StoC)"]
KEY = bytes.fromhex(GET["keys"]["encryption_key"])
AK = bytes.fromhex(GET["keys"]["authentication_key"])
TITLE = bytes.fromhex(GET["keys"]["system_title"])
CONTROLS = (0x10, 0x20, 0x30, 0x50, 0x60, 0x70)


def _keys_of(vector: dict[str, Any]) -> tuple[bytes, bytes]:
    return bytes.fromhex(vector["keys"]["encryption_key"]), bytes.fromhex(vector["keys"]["authentication_key"])


def test_the_ciphered_get_of_the_green_book_opens_and_is_built_again():
    raw, expected = bytes.fromhex(GET["hex"]), GET["expected"]
    closed = parse_ciphered(raw)
    assert closed[:4] == (expected["tag"], b"", expected["security_control"], expected["invocation_counter"])
    plain = unprotect(closed.control, KEY, AK, TITLE, closed.counter, closed.content)
    assert plain.hex().upper() == expected["plaintext"]
    content = protect(closed.control, KEY, AK, TITLE, closed.counter, plain)
    assert build_ciphered(Ciphered(glo_tag(plain[0]), b"", closed.control, closed.counter, content)) == raw


def test_the_gmac_answer_of_the_green_book_is_given_and_taken():
    expected, (key, ak) = GMAC["expected"], _keys_of(GMAC)
    title, challenge = bytes.fromhex(expected["system_title"]), bytes.fromhex(expected["challenge_StoC"])
    answer = hls.gmac_answer(key, ak, title, expected["invocation_counter"], challenge)
    assert answer.hex().upper() == GMAC["hex"]
    assert hls.check_gmac(answer, key, ak, title, challenge) == expected["invocation_counter"]
    assert gmac(0x10, key, ak, title, 1, challenge).hex().upper() == expected["tag"]


@given(st.sampled_from(CONTROLS), st.integers(0, 0xFFFFFFFF), st.binary(max_size=300))
def test_what_is_protected_opens_again(control: int, counter: int, plain: bytes):
    content = protect(control, KEY, AK, TITLE, counter, plain)
    assert len(content) == len(plain) + (12 if control & 0x10 else 0)
    assert unprotect(control, KEY, AK, TITLE, counter, content) == plain


@pytest.mark.parametrize("control", [0x10, 0x30, 0x70])
@pytest.mark.parametrize("changed", ["control", "key", "ak", "title", "counter", "content"])
def test_nothing_opens_with_another_key_title_counter_or_content(control: int, changed: str):
    arguments: dict[str, Any] = {"control": control, "key": KEY, "ak": AK, "title": TITLE, "counter": 7}
    content = protect(**arguments, plaintext=b"a request")
    if changed == "content":
        content = content[:-1] + bytes((content[-1] ^ 1,))
    elif changed == "control":
        arguments["control"] = control ^ 0x40
    elif changed == "counter":
        arguments["counter"] = 8
    else:
        arguments[changed] = bytes(len(arguments[changed]))
    with pytest.raises(WrongKeyError, match="the tag does not fit"):
        unprotect(**arguments, content=content)


@given(
    st.sampled_from([*PLAIN_OF_GLO, *PLAIN_OF_DED, GENERAL_GLO, GENERAL_DED]),
    st.sampled_from(CONTROLS),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=400),
    st.sampled_from([b"", TITLE]),
)
def test_a_ciphered_apdu_reads_back_as_it_was_built(tag: int, control: int, counter: int, content: bytes, title: bytes):
    closed = Ciphered(tag, title if tag in (GENERAL_GLO, GENERAL_DED) else b"", control, counter, content)
    assert parse_ciphered(build_ciphered(closed)) == closed


@pytest.mark.parametrize(
    ("apdu", "words"),
    [
        ("", "not a ciphered APDU: nothing"),
        ("C001C1", "not a ciphered APDU: c0"),
        ("C8", "ends before a length"),
        ("C807300000000142", "says 7 bytes, 6 are there"),
        ("C80430000000", "too few"),
        ("C8850000000006", "length octet"),
        ("C8053100000001", r"suite 1 \(ECDSA-P256\) is not supported"),
        ("C8053200000001", r"suite 2 \(ECDSA-P384\) is not supported"),
        ("C8053300000001", "suite 3 is not supported"),
        ("C805B000000001", "compressed"),
        ("C8050000000001", "protects nothing"),
        ("DB074D4D4D0000BC61", "a system title of 7 bytes"),
        ("DB084D4D4D0000BC61", "a system title of 8 bytes"),
        ("DB", "a system title of 0 bytes"),
    ],
)
def test_a_malformed_or_unsupported_header_is_told(apdu: str, words: str):
    with pytest.raises(FrameError, match=words):
        parse_ciphered(bytes.fromhex(apdu))


@pytest.mark.parametrize("control", [0x00, 0x31, 0x32, 0xB0, 0x40])
def test_nothing_is_protected_in_a_way_that_is_not_supported(control: int):
    with pytest.raises(FrameError):
        protect(control, KEY, AK, TITLE, 1, b"x")
    with pytest.raises(FrameError):
        unprotect(control, KEY, AK, TITLE, 1, bytes(20))


@pytest.mark.parametrize(
    ("key", "ak", "title", "counter", "words"),
    [
        (b"", AK, TITLE, 1, "no encryption key"),
        (KEY[1:], AK, TITLE, 1, "15 bytes"),
        (KEY, b"", TITLE, 1, "no authentication key"),
        (KEY, AK + b"x", TITLE, 1, "17 bytes"),
        (KEY, AK, b"", 1, "system title is not known"),
        (KEY, AK, b"MMM", 1, "8 bytes"),
        (KEY, AK, TITLE, 1 << 32, "at its end"),
    ],
)
def test_missing_keys_and_ended_counters_are_told(key: bytes, ak: bytes, title: bytes, counter: int, words: str):
    with pytest.raises(AuthError, match=words):
        protect(0x30, key, ak, title, counter, b"x")


def test_an_authenticated_content_shorter_than_its_tag_is_refused():
    for control in (0x10, 0x30):
        with pytest.raises(FrameError, match="its tag alone has 12"):
            unprotect(control, KEY, AK, TITLE, 1, bytes(11))


def test_a_service_without_a_ciphered_form_is_told():
    assert (glo_tag(0xC4), ded_tag(0xC4)) == (0xCC, 0xD4)
    for service in (0x0F, 0xD8):
        with pytest.raises(ValueError, match="general ciphering"):
            glo_tag(service)
    with pytest.raises(ValueError, match="general ciphering"):
        ded_tag(0x01)


def test_every_truncated_or_flipped_ciphered_vector_is_a_meter_error():
    raw = bytes.fromhex(GET["hex"])
    damaged = [raw[:length] for length in range(len(raw))]
    damaged += [
        raw[: bit // 8] + bytes((raw[bit // 8] ^ 1 << bit % 8,)) + raw[bit // 8 + 1 :] for bit in range(8, len(raw) * 8)
    ]
    for apdu in damaged:
        if apdu[2:3] == b"\x20":  # encryption alone has no tag: the session refuses it where authentication was agreed
            continue
        with pytest.raises(MeterError):
            _open(apdu)


def _open(apdu: bytes) -> bytes:
    closed = parse_ciphered(apdu)
    return unprotect(closed.control, KEY, AK, TITLE, closed.counter, closed.content)


# --- wrapped keys ----------------------------------------------------------------------------------------------------


def test_the_wrapped_key_of_rfc_3394_is_made_and_opened():
    master, key = bytes(range(16)), bytes.fromhex("00112233445566778899AABBCCDDEEFF")
    wrapped = wrap_key(master, key)
    assert wrapped.hex().upper() == "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"
    assert unwrap_key(master, wrapped) == key
    with pytest.raises(WrongKeyError, match="wrong master key"):
        unwrap_key(key, wrapped)
    with pytest.raises(FrameError, match="23 bytes"):
        unwrap_key(master, wrapped[1:])
    for wrong in (b"", key[1:]):
        with pytest.raises(AuthError):
            wrap_key(wrong, key)
        with pytest.raises(AuthError):
            unwrap_key(wrong, wrapped)


# --- challenges ------------------------------------------------------------------------------------------------------

CLIENT = hls.Side(b"CLI\x00\x00\x00\x00\x01", b"P6wRJ21F")
SERVER = hls.Side(b"SRV\x00\x00\x00\x00\x01", b"K56iVagY")


def test_answers_by_digest_are_made_of_what_the_green_book_says_in_its_order():
    from hashlib import md5, sha1, sha256

    secret = b"12345678"
    assert hls.digest_answer(3, secret, CLIENT, SERVER) == md5(b"K56iVagY12345678").digest()
    assert hls.digest_answer(4, secret, SERVER, CLIENT) == sha1(b"P6wRJ21F12345678").digest()
    ours = secret + CLIENT.title + SERVER.title + SERVER.challenge + CLIENT.challenge
    theirs = secret + SERVER.title + CLIENT.title + CLIENT.challenge + SERVER.challenge
    assert hls.digest_answer(6, secret, CLIENT, SERVER) == sha256(ours).digest()
    assert hls.digest_answer(6, secret, SERVER, CLIENT) == sha256(theirs).digest()


@pytest.mark.parametrize("mechanism", [hls.MD5, hls.SHA1, hls.SHA256])
def test_only_who_knows_the_secret_answers(mechanism: int):
    answer = hls.digest_answer(mechanism, b"secret", SERVER, CLIENT)
    hls.check_digest(answer, mechanism, b"secret", SERVER, CLIENT)
    for wrong in (b"", answer[:-1], answer + b"x", bytes(len(answer))):
        with pytest.raises(WrongPasswordError):
            hls.check_digest(wrong, mechanism, b"secret", SERVER, CLIENT)
    with pytest.raises(WrongPasswordError):
        hls.check_digest(answer, mechanism, b"another", SERVER, CLIENT)
    with pytest.raises(WrongPasswordError):
        hls.check_digest(answer, mechanism, b"secret", SERVER, CLIENT._replace(challenge=b"a new one"))


@pytest.mark.parametrize("mechanism", [0, 2, 5, 7])
def test_a_mechanism_without_a_digest_is_told(mechanism: int):
    with pytest.raises(AuthError, match="not supported"):
        hls.digest_answer(mechanism, b"secret", CLIENT, SERVER)


def test_a_digest_without_a_secret_is_told():
    with pytest.raises(AuthError, match="no secret"):
        hls.digest_answer(hls.MD5, b"", CLIENT, SERVER)


def test_a_wrong_gmac_answer_is_told():
    answer = hls.gmac_answer(KEY, AK, TITLE, 9, b"challenge")
    with pytest.raises(WrongPasswordError):
        hls.check_gmac(answer, KEY, AK, TITLE, b"challengf")
    with pytest.raises(FrameError, match="16 bytes"):
        hls.check_gmac(answer[1:], KEY, AK, TITLE, b"challenge")
    with pytest.raises(FrameError, match="suite 1, security control 0x11"):
        hls.check_gmac(b"\x11" + answer[1:], KEY, AK, TITLE, b"challenge")
    with pytest.raises(FrameError, match="control 0x30"):
        hls.check_gmac(b"\x30" + answer[1:], KEY, AK, TITLE, b"challenge")


def test_challenges_are_new_each_time_and_ours_sent_back_is_refused():
    ours = hls.make_challenge()
    assert ours != hls.make_challenge()
    hls.check_challenge(hls.make_challenge(), ours)
    with pytest.raises(AuthError, match="our own challenge"):
        hls.check_challenge(ours, ours)
    for length in (0, 7, 65):
        with pytest.raises(FrameError, match="allowed are 8 to 64"):
            hls.check_challenge(bytes(length), ours)
