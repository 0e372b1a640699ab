import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import StorageError
from storage.segment import (
    RECORD_HEADER,
    SEGMENT_HEADER,
    SEQ_LIMIT,
    End,
    Gap,
    Record,
    SegmentHeader,
    SparseIndex,
    Window,
    pack_header,
    pack_record,
    parse_header,
    seed_of,
    walk,
)

EPOCH = "0123456789abcdef"
SEED = seed_of(EPOCH)
HEADER = SegmentHeader(EPOCH, 1, 1_764_000_000_000_000, 5)


def segment_of(payloads: list[bytes], first: int = 1, seed: int = SEED):
    parts = [pack_header(HEADER._replace(first_seq=first))]
    for seq, payload in enumerate(payloads, first):
        parts += [pack_record(seq, payload, 1000 + seq, seq, seed), payload]
    return b"".join(parts)


def walked(data: bytes, tmp_path_factory_dir: Path, from_seq: int = 1, first: int = 1, below: int = SEQ_LIMIT):
    path = tmp_path_factory_dir / "a.seg"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        return list(walk(Window(fd, len(data)), (SEGMENT_HEADER, first - 1), SEED, from_seq, below))
    finally:
        os.close(fd)


def seqs(found: list[Any]):
    return [one.seq for one in found if isinstance(one, Record)]


def test_records_come_back_in_order_with_their_times(tmp_path: Path):
    found = walked(segment_of([b"a", b"", b"c" * 300_000]), tmp_path)
    assert found[:-1] == [Record(1, b"a", 1001), Record(2, b"", 1002), Record(3, b"c" * 300_000, 1003)]
    assert found[-1] == End(4, SEGMENT_HEADER + 3 * RECORD_HEADER + 300_001, 3, ())


def test_the_header_is_exact_and_a_newer_version_is_refused():
    data = pack_header(HEADER)
    assert parse_header(data) == HEADER
    assert parse_header(data[:-1]) is None
    for at in range(len(data)):
        assert parse_header(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None
    import zlib

    newer = data[:8] + struct.pack("<H", 9) + data[10:-4]
    with pytest.raises(StorageError, match="version 9"):
        parse_header(newer + zlib.crc32(newer).to_bytes(4, "little"))


@pytest.mark.parametrize("at", range(RECORD_HEADER + 10))
def test_a_flipped_bit_anywhere_in_a_record_takes_only_that_record(tmp_path: Path, at: int):
    payloads = [b"first-----", b"second----", b"third-----"]
    data = bytearray(segment_of(payloads))
    data[SEGMENT_HEADER + RECORD_HEADER + 10 + at] ^= 0x10
    found = walked(bytes(data), tmp_path)
    assert seqs(found) == [1, 3]
    (gap,) = [one for one in found if isinstance(one, Gap)]
    assert (gap.first, gap.last) == (2, 2)
    assert gap.damages
    assert not gap.damages[0].torn


@pytest.mark.parametrize("keep", [0, 1, RECORD_HEADER - 1, RECORD_HEADER, RECORD_HEADER + 9])
def test_a_torn_tail_is_cut_at_the_last_whole_record(tmp_path: Path, keep: int):
    whole = segment_of([b"x" * 10])
    torn = segment_of([b"x" * 10, b"y" * 10])[: len(whole) + keep]
    found = walked(torn, tmp_path)
    assert seqs(found) == [1]
    assert found[-1].offset == len(whole)
    assert all(damage.torn for damage in found[-1].damages)


def test_zeros_after_the_end_are_a_torn_tail(tmp_path: Path):
    whole = segment_of([b"x"])
    end = walked(whole + bytes(500_000), tmp_path)[-1]
    assert (end.expected, end.offset) == (2, len(whole))
    assert [damage.torn for damage in end.damages] == [True]


def test_a_record_inside_a_payload_never_passes_for_one(tmp_path: Path):
    inner = segment_of([b"old"], first=1) + segment_of([b"foreign"], first=3, seed=seed_of("fedcba9876543210"))
    data = bytearray(segment_of([b"a", inner, b"c"]))
    data[SEGMENT_HEADER + RECORD_HEADER + 1 + 4] ^= 1  # the length of the record that carries them
    found = walked(bytes(data), tmp_path)
    assert [one.payload for one in found if isinstance(one, Record)] == [b"a", b"c"]


def test_a_record_that_a_later_segment_took_over_is_not_seen(tmp_path: Path):
    found = walked(segment_of([b"a", b"b", b"never acknowledged"]), tmp_path, below=3)
    assert seqs(found) == [1, 2]


def test_reading_begins_anywhere_by_the_index(tmp_path: Path):
    data = segment_of([bytes([i % 251]) * 5000 for i in range(300)])
    path = tmp_path / "a.seg"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    index = SparseIndex(1)
    index.extend(Window(fd, len(data)), SEED)
    for seq in (1, 2, 150, 299, 300):
        start = index.locate(seq, 1)
        assert seq - start[1] < 40
        assert next(walk(Window(fd, len(data)), start, SEED, seq, SEQ_LIMIT)).seq == seq
    os.close(fd)


@given(
    payloads=st.lists(st.binary(max_size=60), min_size=1, max_size=8),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=3),
)
def test_damage_never_invents_changes_or_reorders(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], flips: list[tuple[int, int]]
):
    clean = segment_of(payloads)
    data = bytearray(clean)
    for at, bits in flips:
        data[SEGMENT_HEADER + at % (len(data) - SEGMENT_HEADER)] ^= bits
    ends = [SEGMENT_HEADER]
    for payload in payloads:
        ends.append(ends[-1] + RECORD_HEADER + len(payload))
    untouched = {
        seq
        for seq in range(1, len(payloads) + 1)
        if data[ends[seq - 1] : ends[seq]] == clean[ends[seq - 1] : ends[seq]]
    }
    found = walked(bytes(data), tmp_path_factory.mktemp("segment"))
    records = [one for one in found if isinstance(one, Record)]
    assert {one.seq for one in records} == untouched
    assert [one.seq for one in records] == sorted(untouched)
    assert all(one.payload == payloads[one.seq - 1] for one in records)
