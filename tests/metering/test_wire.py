"""Payloads between gateway and head-end: there and back, and whatever else may come."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering import wire
from metering.model import Skipped
from metering.wire import Receipt, Status, UnknownVersionError, Up, WireError

NAMES = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")


@st.composite
def ups(draw: st.DrawFn) -> Up:
    first = seq = draw(st.integers(1, 10**12))
    records: list[bytes | Skipped] = []
    for payload in draw(st.lists(st.one_of(st.binary(max_size=50), st.integers(1, 10**6)), min_size=1, max_size=20)):
        if isinstance(payload, bytes):
            records.append(payload)
            seq += 1
        else:
            records.append(Skipped(seq, seq + payload - 1, "evicted", {"m1": payload}))
            seq += payload
    return Up(draw(NAMES), first, records)


@given(ups())
def test_an_up_comes_back_as_it_was_and_knows_its_end(up: Up):
    assert wire.decode(wire.encode(up), Up) == up
    counted = sum(1 if isinstance(r, bytes) else r.to_seq - r.from_seq + 1 for r in up.records)
    assert wire.end_of(up) == up.first_seq + counted


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused_as_none(payload: bytes):
    for kind in (Up, Receipt, Status):
        found: Up | Receipt | Status | None = None
        with contextlib.suppress(WireError):
            found = wire.decode(payload, kind)
        assert found is None or isinstance(found, kind)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01" + b"\x91" * 10_000,
        b"\x01\x81\xa1q" + b"\x91" * 10_000,
        b"\x01\x81\xa1q\xdd\xff\xff\xff\xff",
        b"\x01" + bytes(64 << 20),
    ],
    ids=["empty", "nested 10,000 deep", "nested in an unknown field", "a list that claims 4 G items", "64 MB"],
)
def test_a_hostile_payload_is_refused(payload: bytes):
    with pytest.raises(WireError):
        wire.decode(payload, Up)


def test_an_unknown_version_is_told():
    with pytest.raises(UnknownVersionError, match="version 2; this program reads version 1"):
        wire.decode(b"\x02\x80", Up)


def test_unknown_fields_are_skipped():
    payload = b"\x01" + msgspec.msgpack.encode({"epoch": "e", "contiguous": 4, "later": [1, {"x": 2}]})
    assert wire.decode(payload, Receipt) == Receipt("e", 4)


def test_a_skipped_range_that_stands_elsewhere_is_refused():
    with pytest.raises(WireError, match="skipped 7 to 9 stands at 6"):
        wire.end_of(Up("e", 5, [b"", Skipped(7, 9, "lost")]))
