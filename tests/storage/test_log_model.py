"""Random lives of a log against a plain model of it: what was acknowledged is there, in order, or told as gone."""

import itertools
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from metering.model import Skipped
from storage.codec import Counts
from storage.log import Log, LogLimits, Record
from storage.segment import Entry, Window, list_segments, open_for_reading, scan, seed_of

MEMORY = Path("/dev/shm")  # the model is about order and damage; the disk has its own tests
LIMITS = LogLimits(max_bytes=64 * 1024, segment_bytes=6 * 1024, min_free_bytes=0)


def count(_payload: bytes):
    return Counts({"m": 1}, None, None)


class LogMachine(RuleBasedStateMachine):
    """`stored` has every acknowledged record, `hurt` the seqs whose bytes were damaged or removed."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.exists() else None))
        self.stored = {}
        self.hurt = set()
        self.cursors = {}
        self.log = self.open()

    def open(self):
        return Log.open(self.directory / "log", LIMITS, count=count)

    def teardown(self):
        self.log.close()
        shutil.rmtree(self.directory)

    @rule(payloads=st.lists(st.binary(max_size=40), min_size=1, max_size=4), size=st.sampled_from([0, 900, 4000]))
    def append(self, payloads: list[bytes], size: int):
        payloads = [one.ljust(size, b"p") for one in payloads]
        got = self.log.append_now(payloads)
        assert got.start > max(self.stored, default=0)
        self.stored.update(zip(got, payloads, strict=True))

    @rule()
    def trim(self):
        self.log.trim()

    @rule()
    def reopen(self):
        self.log.close()
        self.log = self.open()

    @rule(name=st.sampled_from("ab"), part=st.floats(0, 1))
    def move(self, name: str, part: float):
        first, following = self.log.first_seq, self.log.next_seq
        cursor = self.log.cursor(name)
        position = max(cursor.position, first + int((following - first) * part))
        cursor.move(position)
        self.cursors[name] = position

    @precondition(lambda self: self.stored)
    @rule(segment=st.integers(0, 50), at=st.integers(0, 10**6), bits=st.integers(1, 255), live=st.booleans())
    def damage(self, segment: int, at: int, bits: int, *, live: bool):
        paths = list_segments(self.directory / "log")
        path = paths[segment % len(paths)][1]
        data = bytearray(path.read_bytes())
        at %= len(data)
        self.hurt |= {one.seq for one in self.entries(path) if one.offset <= at < one.end}
        if live:
            self.flip(path, data, at, bits)
        else:
            self.log.close()
            self.flip(path, data, at, bits)
            self.log = self.open()

    @precondition(lambda self: len(list_segments(self.directory / "log")) > 2)
    @rule(segment=st.integers(0, 50))
    def remove(self, segment: int):
        paths = list_segments(self.directory / "log")[:-1]
        path = paths[segment % len(paths)][1]
        self.hurt |= {one.seq for one in self.entries(path)}
        path.unlink()

    def entries(self, path: Path):
        with open_for_reading(path) as (fd, length):
            found = scan(Window(fd, length), 52, seed_of(self.log.epoch), 0, 2**63)
            return [one for one in found if isinstance(one, Entry)]

    @staticmethod
    def flip(path: Path, data: bytes, at: int, bits: int) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([data[at] ^ bits]))

    @invariant()
    def every_seq_is_a_record_or_told_as_gone(self):
        position, found = 1, {}
        while items := self.log.read(position, 5, 7000):
            for item in items:
                first = item.seq if isinstance(item, Record) else item.from_seq
                assert first == position
                position = item.seq + 1 if isinstance(item, Record) else item.to_seq + 1
                if isinstance(item, Record):
                    found[item.seq] = item.payload
        assert position == self.log.next_seq
        assert position > max(self.stored, default=0)
        kept = {seq: payload for seq, payload in self.stored.items() if seq >= self.log.first_seq}
        assert found.items() <= kept.items()
        assert kept.keys() - found.keys() <= self.hurt
        assert [*found] == sorted(found)

    @invariant()
    def limits_cursors_and_tombstones_hold(self):
        assert self.log.status().bytes <= LIMITS.max_bytes
        for name, position in self.cursors.items():
            assert self.log.cursor(name).position == position
        stones = self.log.tombstones()
        assert all(isinstance(one, Skipped) for one in stones)
        assert all(a.to_seq < b.from_seq for a, b in itertools.pairwise(stones))


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
