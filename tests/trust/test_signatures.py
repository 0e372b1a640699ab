"""Signatures of several people over one payload, and what is done to them by those who may not sign."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey
from joserfc.util import urlsafe_b64encode

from trust.keys import PublicKey, SigningKey
from trust.merkle import leads_to, leaf, proofs_of, root_of
from trust.signatures import BadSignatureError, Kind, add, merge, payload_of, sign, verify

ANNA, BEN, EVE = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
KNOWN = {key.public.id: key.public for key in (ANNA, BEN)}


def changed(signed: bytes, number: int, **parts: str) -> bytes:
    found = json.loads(signed)
    found["signatures"][number] |= parts
    return json.dumps(found).encode()


def header(**parts: object) -> str:
    return urlsafe_b64encode(json.dumps(parts).encode()).rstrip(b"=").decode()


def test_what_two_signed_is_verified_with_both():
    signed = add(sign(b"cut", Kind.COMMAND, [ANNA]), Kind.COMMAND, BEN)
    assert verify(signed, Kind.COMMAND, KNOWN) == (b"cut", frozenset(KNOWN))


def test_who_signs_twice_signed_once():
    signed = add(sign(b"cut", Kind.COMMAND, [ANNA]), Kind.COMMAND, ANNA)
    assert len(json.loads(signed)["signatures"]) == 1
    twice = json.loads(signed)
    twice["signatures"] *= 2
    assert verify(json.dumps(twice).encode(), Kind.COMMAND, KNOWN).kids == {ANNA.public.id}


def test_signatures_that_were_collected_apart_are_merged():
    one, two = sign(b"cut", Kind.COMMAND, [ANNA]), sign(b"cut", Kind.COMMAND, [BEN])
    assert verify(merge(one, two), Kind.COMMAND, KNOWN).kids == set(KNOWN)
    with pytest.raises(BadSignatureError, match="different payloads"):
        merge(one, sign(b"close", Kind.COMMAND, [BEN]))


def test_a_key_that_nobody_knows_says_nothing():
    assert verify(sign(b"cut", Kind.COMMAND, [ANNA, EVE]), Kind.COMMAND, KNOWN).kids == {ANNA.public.id}
    with pytest.raises(BadSignatureError, match="no key that is known"):
        verify(sign(b"cut", Kind.COMMAND, [EVE]), Kind.COMMAND, KNOWN)


def test_a_signature_under_one_kind_is_none_under_another():
    with pytest.raises(BadSignatureError, match="not a metergate-trust"):
        verify(sign(b"cut", Kind.COMMAND, [ANNA]), Kind.TRUST, KNOWN)


def test_another_payload_under_the_same_signatures_is_refused():
    found = json.loads(sign(b"cut MP-1", Kind.COMMAND, [ANNA, BEN]))
    found["payload"] = urlsafe_b64encode(b"cut MP-2").decode()
    with pytest.raises(BadSignatureError, match="is wrong"):
        verify(json.dumps(found).encode(), Kind.COMMAND, KNOWN)


def test_a_good_signature_under_anothers_name_is_refused():
    signed = sign(b"cut", Kind.COMMAND, [EVE])
    protected = header(alg="Ed25519", kid=ANNA.public.id, typ=str(Kind.COMMAND))
    with pytest.raises(BadSignatureError, match="is wrong"):
        verify(changed(signed, 0, protected=protected), Kind.COMMAND, KNOWN)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "EdDSA", "RS256", "ed25519"])
def test_no_other_algorithm_is_read(algorithm: str):
    protected = header(alg=algorithm, kid=ANNA.public.id, typ=str(Kind.COMMAND))
    with pytest.raises(BadSignatureError, match="algorithm"):
        verify(changed(sign(b"cut", Kind.COMMAND, [ANNA]), 0, protected=protected), Kind.COMMAND, KNOWN)


def test_a_mac_with_the_public_key_as_its_secret_is_no_signature():
    member = {"protected": {"alg": "HS256", "kid": ANNA.public.id, "typ": str(Kind.COMMAND)}}
    made = jws.serialize_json([member], b"cut", OctKey.import_key(ANNA.public.raw), algorithms=["HS256"])
    with pytest.raises(BadSignatureError, match="algorithm"):
        verify(json.dumps(made).encode(), Kind.COMMAND, KNOWN)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{}",
        b"[" * 10_000,
        b'{"payload":"YQ","signatures":[]}',
        b'{"payload":"YQ","signatures":[{"protected":"e30","signature":""}]}',
        b'{"payload":"YR","signatures":[{"protected":"e30","signature":"AA"}]}',
        b'{"payload":"YQ","signatures":[{"protected":"e30","signature":"AA","header":{"kid":"a"}}]}',
        b'{"payload":"YQ","protected":"e30","signature":"AA"}',
        b'{"payload":"YQ","signatures":' + json.dumps([{"protected": "e30", "signature": "AA"}] * 33).encode() + b"}",
        b'{"payload":"' + b"A" * (9 << 20) + b'","signatures":[]}',
    ],
    ids=["nothing", "empty", "deep", "stripped", "no kid", "odd base64", "unprotected", "flattened", "many", "large"],
)
def test_what_is_no_jws_of_ours_is_refused(broken: bytes):
    with pytest.raises(BadSignatureError):
        verify(broken, Kind.COMMAND, KNOWN)


@pytest.mark.parametrize(
    "more",
    [
        {"jku": "https://eve.example/keys"},
        {"jwk": EVE.jwk().as_dict(private=False)},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"crit": []},
        {"x5c": ["AA"]},
    ],
    ids=["jku", "jwk", "crit and b64", "b64", "crit", "x5c"],
)
def test_headers_that_ask_for_more_are_refused(more: dict[str, object]):
    protected = header(alg="Ed25519", kid=ANNA.public.id, typ=str(Kind.COMMAND), **more)
    with pytest.raises(BadSignatureError, match=r"exactly|header cannot be read"):
        verify(changed(sign(b"cut", Kind.COMMAND, [ANNA]), 0, protected=protected), Kind.COMMAND, KNOWN)


def test_what_could_be_read_in_two_ways_is_not_read():
    signed = sign(b"cut", Kind.COMMAND, [ANNA])
    names = f'"kid":"{ANNA.public.id}","typ":"{Kind.COMMAND}"'
    twice = urlsafe_b64encode(f'{{"alg":"none","alg":"Ed25519",{names}}}'.encode()).rstrip(b"=").decode()
    with pytest.raises(BadSignatureError, match="a protected header cannot be read"):
        verify(changed(signed, 0, protected=twice), Kind.COMMAND, KNOWN)
    with pytest.raises(BadSignatureError, match="a member stands twice"):
        verify(signed.replace(b'{"payload"', b'{"payload":"YQ","payload"', 1), Kind.COMMAND, KNOWN)
    with pytest.raises(BadSignatureError, match="a member stands twice"):
        verify(signed.replace(b"[{", b'[{"signature":"AA",', 1), Kind.COMMAND, KNOWN)
    signature = json.loads(signed)["signatures"][0]["signature"]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = signature[:-1] + letters[letters.index(signature[-1]) + 1]  # bits that no byte holds
    for form in (other, signature + "==", signature + "\n"):
        with pytest.raises(BadSignatureError):
            verify(changed(signed, 0, signature=form), Kind.COMMAND, KNOWN)


def test_ten_thousand_signatures_are_not_looked_at():
    found = json.loads(sign(b"cut", Kind.COMMAND, [ANNA]))
    found["signatures"] *= 10_000
    with pytest.raises(BadSignatureError, match="no JWS"):
        verify(json.dumps(found).encode(), Kind.COMMAND, KNOWN)


@settings(max_examples=100)
@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(1, 255))
def test_no_flipped_byte_of_what_was_signed_passes_as_something_else(payload: bytes, at: int, flip: int):
    signed = bytearray(sign(payload, Kind.COMMAND, [ANNA]))
    signed[at % len(signed)] ^= flip
    with contextlib.suppress(BadSignatureError):
        assert verify(bytes(signed), Kind.COMMAND, KNOWN).payload == payload


def test_public_keys_have_one_form():
    text = str(ANNA.public)
    assert PublicKey.parse(text) == ANNA.public
    for other in (text + "=", text[:-1], text.upper(), "ed25519:", text[8:]):
        with pytest.raises(ValueError, match="public key"):
            PublicKey.parse(other)


def test_a_key_shows_its_id_and_nothing_else():
    assert repr(ANNA) == f"SigningKey({ANNA.public.id})"


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=70), st.data())
def test_every_command_of_a_campaign_leads_to_its_root_and_no_other_does(bodies: list[bytes], data: st.DataObject):
    leaves = [leaf(each) for each in bodies]
    root, proofs = root_of(leaves), proofs_of(leaves)
    assert all(leads_to(body, proof, root) for body, proof in zip(bodies, proofs, strict=True))
    at = data.draw(st.integers(0, len(bodies) - 1))
    other = data.draw(st.binary(max_size=20).filter(lambda body: body not in bodies))
    assert not leads_to(other, proofs[at], root)


def test_a_node_of_the_tree_is_no_command():
    leaves = [leaf(bytes([each])) for each in range(4)]
    inner = leaves[0] + leaves[1]
    assert not leads_to(inner, proofs_of(leaves)[0][1:], root_of(leaves))


def test_a_proof_without_end_is_refused():
    assert not leads_to(b"a", [("l", bytes(32))] * 15, bytes(32))


def test_payloads_can_be_looked_at_before_they_are_signed():
    assert payload_of(sign(b"cut", Kind.COMMAND, [EVE])) == b"cut"
