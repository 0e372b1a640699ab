"""Invocation counters: never a value twice, over kills, torn lines and restored disks."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from gateway.counters import BLOCK, CEILING, LARGEST_RAISE, LAST, Counter, Counters
from metering.errors import AuthError, StorageError

NAME = "flat-1 0123456789abcdef 4d47540000000001"


def test_a_counter_begins_where_a_person_said(tmp_path: Path) -> None:
    counter = Counters(tmp_path / "counters").counter(NAME, 7)
    assert [counter.next() for _ in range(3)] == [7, 8, 9]


def test_what_is_left_of_a_block_is_given_up_at_a_restart(tmp_path: Path) -> None:
    first = Counters(tmp_path / "counters").counter(NAME, 0)
    assert first.next() == 0
    assert Counters(tmp_path / "counters").counter(NAME, 0).next() == BLOCK


def test_a_counter_that_nobody_knows_gives_nothing_out(tmp_path: Path) -> None:
    counter = Counters(tmp_path / "counters").counter(NAME, None)
    assert not counter.known
    with pytest.raises(AuthError, match="not known"):
        counter.next()
    counter.raise_to(41)
    assert counter.known
    assert counter.next() == 41 + BLOCK


def test_the_meters_word_moves_it_up_and_never_down(tmp_path: Path) -> None:
    counter = Counters(tmp_path / "counters").counter(NAME, 5000)
    counter.next()
    counter.raise_to(10)
    assert counter.next() == 5001
    counter.raise_to(9000)
    assert counter.next() == 9000 + BLOCK


@pytest.mark.parametrize("word", [LARGEST_RAISE + 1 + BLOCK, CEILING + 1, LAST])
def test_a_word_too_far_ahead_is_not_believed(tmp_path: Path, word: int) -> None:
    counter = Counters(tmp_path / "counters").counter(NAME, 0)
    counter.next()
    with pytest.raises(AuthError, match="not believed"):
        counter.raise_to(word)
    assert counter.next() == 1


def test_after_the_last_value_a_new_key_is_asked_for(tmp_path: Path) -> None:
    counter = Counters(tmp_path / "counters").counter(NAME, LAST)
    assert counter.next() == LAST
    with pytest.raises(AuthError, match="new key"):
        counter.next()


def test_on_a_restored_disk_the_meter_is_asked_first(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    Counters(path, "epoch-1").counter(NAME, 0).next()
    restored = Counters(path, "epoch-2")
    counter = restored.counter(NAME, 0)
    assert not counter.known
    assert not Counters(path, "epoch-2").counter(NAME, 0).known  # a second start makes nothing better
    counter.raise_to(3000)
    assert counter.next() == 3000 + BLOCK
    assert Counters(path, "epoch-2").counter(NAME, 0).next() == 3000 + 2 * BLOCK


def test_a_torn_line_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    counter = Counters(path).counter(NAME, 0)
    counter.next()
    whole = path.read_bytes()
    Counters(path).counter("other", 0).next()
    for cut in range(len(whole), path.stat().st_size):
        torn = tmp_path / f"torn-{cut}"
        torn.write_bytes(path.read_bytes()[:cut])
        again = Counters(torn)
        assert again.counter(NAME, 0).next() == BLOCK
        third = again.counter("third", 0).next()
        assert third == 0
        assert Counters(torn).reserved("third") == BLOCK


def test_where_the_disk_refuses_no_value_is_given_out(tmp_path: Path) -> None:
    counters = Counters(tmp_path / "counters")
    (tmp_path / "counters").unlink()
    (tmp_path / "counters").mkdir()
    with pytest.raises(StorageError, match="no counter can be reserved"):
        counters.counter(NAME, 0).next()


def test_a_long_journal_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    counters = Counters(path)
    for value in range(1, 3000):
        counters.reserve(NAME, value)
    size = path.stat().st_size
    assert Counters(path).reserved(NAME) == 2999
    assert path.stat().st_size < size / 100


WRITER = """
import sys
from pathlib import Path
from gateway.counters import Counters
counter = Counters(Path(sys.argv[1])).counter("m", 0)
while True:
    sys.stdout.write(f"{counter.next()}\\n")
    sys.stdout.flush()
"""


@pytest.mark.fault
def test_no_value_is_given_out_twice_over_kills(tmp_path: Path) -> None:
    seen: set[int] = set()
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "counters")],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": "."},
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(700)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        given = [int(line) for line in lines if line.endswith(b"\n")]
        assert not seen & set(given)
        assert given == sorted(set(given))
        seen.update(given)


class Restarts(RuleBasedStateMachine):
    """Whatever happens in whatever order, values only rise."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(os.environ.get("TMPDIR", "/tmp")) / f"counters-{os.getpid()}-{id(self)}"
        self.highest = -1
        self.counter = self.open()

    def open(self) -> Counter:
        return Counters(self.directory).counter("m", 3)

    @rule(count=st.integers(1, 600))
    def use(self, count: int) -> None:
        for _ in range(count):
            value = self.counter.next()
            assert value > self.highest
            self.highest = value

    @rule(ahead=st.integers(-500, LARGEST_RAISE * 2))
    def hear(self, ahead: int) -> None:
        try:
            self.counter.raise_to(max(0, self.highest + ahead))
        except AuthError:
            assert ahead > LARGEST_RAISE

    @rule()
    def restart(self) -> None:
        self.counter = self.open()

    def teardown(self) -> None:
        self.directory.unlink(missing_ok=True)


TestRestarts = Restarts.TestCase
TestRestarts.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
