import contextlib

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from metering.batch import COMPRESSED, VERSION, Batch, encode
from metering.model import Block, Column, Kind, Layout, Source
from storage.codec import MAX_BATCH_BYTES, Origin, count, is_quiet, origin_of, pack, unpack, with_origin

LAYOUT = Layout(Kind.REGISTER, Source.POLL, 900, (Column("1-0:1.8.0*255", "kWh", -2, "int"),))


def a_batch(meters: int, start: int = 1_000_000) -> Batch:
    return Batch(7, [Block(LAYOUT, f"m{i}", start + i, start + i, [i * 12345]) for i in range(meters)])


@pytest.mark.parametrize("meters", [0, 1, 2, 40, 500])
def test_a_batch_comes_back_as_it_was(meters: int):
    batch = a_batch(meters)
    assert encode(unpack(pack(batch))) == encode(batch)


def test_a_small_batch_stays_plain_and_a_large_one_is_compressed():
    assert pack(a_batch(0))[0] == VERSION
    assert pack(a_batch(40))[0] == VERSION | COMPRESSED


def test_counts_are_by_device_with_the_first_and_last_time():
    assert count(pack(a_batch(2, start=500))) == ({"m0": 1, "m1": 1}, 500, 501)
    assert count(pack(Batch(7))) == ({}, None, None)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "empty"),
        (bytes([VERSION + 1]) + b"\x80", f"version {VERSION + 1}"),
        (bytes([VERSION]), "not a batch"),
        (bytes([VERSION]) + b"\xc1", "not a batch"),
        (bytes([VERSION | COMPRESSED]) + b"no frame", "zstd"),
        (bytes([VERSION | COMPRESSED]) + zstandard.compress(encode(a_batch(9))) + b"more", "zstd"),
        (bytes([VERSION | COMPRESSED]) + zstandard.compress(encode(a_batch(9)))[:-3], "zstd"),
    ],
)
def test_what_is_no_batch_is_refused_with_the_reason(payload: bytes, said: str):
    with pytest.raises(ValueError, match=said):
        unpack(payload)


def test_a_bomb_is_refused_before_it_is_unpacked():
    compressor = zstandard.ZstdCompressor(level=1).compressobj()  # a frame that does not tell its size
    silent = compressor.compress(bytes(MAX_BATCH_BYTES + 1)) + compressor.flush()
    told = zstandard.ZstdCompressor(level=1).compress(bytes(MAX_BATCH_BYTES + 1))
    for frame in (silent, told):
        assert len(frame) < 100_000
        with pytest.raises(ValueError, match=str(MAX_BATCH_BYTES)):
            unpack(bytes([VERSION | COMPRESSED]) + frame)


def test_unknown_fields_are_skipped_and_deep_nesting_is_refused():
    known = msgspec.msgpack.decode(encode(a_batch(1)))
    payload = bytes([VERSION]) + msgspec.msgpack.encode({**known, "later": [1, {"x": 2}]})
    assert unpack(payload).count() == 1
    deep = bytes([VERSION, 0x82, 0xA1]) + b"t\x07" + b"\xa1z" + b"\x91" * 500_000 + b"\x00"
    with pytest.raises(ValueError, match="nested too deeply"):
        unpack(deep)


@given(noise=st.binary(max_size=200), compressed=st.booleans())
def test_any_bytes_are_a_batch_or_a_value_error(noise: bytes, *, compressed: bool):
    payload = bytes([VERSION | COMPRESSED]) + zstandard.compress(noise) if compressed else bytes([VERSION]) + noise
    found: Batch | None = None
    with contextlib.suppress(ValueError):
        found = unpack(payload)
    assert found is None or isinstance(found, Batch)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_record_with_an_origin_holds_the_gateways_own_bytes(*, quiet: bool):
    own = pack(Batch(5))
    origin = Origin("g1", "0af3", 7, 9, 0xFFFFFFFF)
    record = with_origin(origin, own, quiet=quiet)
    assert record.endswith(own)
    assert (is_quiet(record), is_quiet(own)) == (quiet, False)
    assert unpack(record) == unpack(own)
    assert origin_of(record) == origin
    assert origin_of(own) is None


def test_a_record_that_is_cut_off_in_its_origin_is_refused():
    record = with_origin(Origin("g1", "0af3", 7, 9), pack(Batch(5)))
    for length in range(1, 30):
        with pytest.raises(ValueError, match=r"cut off in its origin|empty payload"):
            unpack(record[:length])
