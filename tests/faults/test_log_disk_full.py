"""A disk that is really full: nothing is accepted, the status says so, what was held stays, and it goes on."""

import contextlib
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metering.errors import LogFullError
from storage.log import Log, LogLimits, Record

SIZE = 2 * 1024 * 1024
PAYLOAD = 9000
PAGES = 8192  # what a cursor's file has, and less than a record
LIMITS = LogLimits(max_bytes=64 * 1024 * 1024, segment_bytes=256 * 1024, min_free_bytes=0)


class SmallDisk:
    """A place that takes about SIZE bytes: a tmpfs, or where none may be mounted a limit on the size of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)], capture_output=True, check=False
        )
        self.mounted = mounted.returncode == 0
        self._limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, log: Log) -> list[bytes]:
        """Append until the disk refuses; return what was acknowledged."""
        if not self.mounted:
            newest = max((self.path / "log").glob("*.seg"), default=None)
            used = newest.stat().st_size if newest else 0
            resource.setrlimit(resource.RLIMIT_FSIZE, (used + 64 * 1024, self._limit[1]))
        stored: list[bytes] = []
        with contextlib.suppress(LogFullError):
            while len(stored) < SIZE // PAYLOAD:
                payload = b"%06d" % len(stored) + bytes(PAYLOAD)
                log.append_now([payload])
                stored.append(payload)
        assert len(stored) < SIZE // PAYLOAD, "the disk took more than it has"
        if self.mounted:
            self._take_the_last_page()
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (PAGES, self._limit[1]))
        return stored

    def _take_the_last_page(self) -> None:
        with contextlib.suppress(OSError), (self.path / "neighbour").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Make room again."""
        (self.path / "ballast").unlink(missing_ok=True)
        (self.path / "neighbour").unlink(missing_ok=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)

    def close(self) -> None:
        """Leave no trace."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)
        if self.mounted:
            subprocess.run(["umount", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "small").mkdir()
    small = SmallDisk(tmp_path / "small")
    yield small
    small.close()


@pytest.fixture
def open_log(disk: SmallDisk) -> Iterator[Callable[[LogLimits], Log]]:
    opened: list[Log] = []

    def opener(limits: LogLimits) -> Log:
        opened.append(Log.open(disk.path / "log", limits))
        return opened[-1]

    yield opener
    for log in opened:
        log.close()


def read_all(log: Log) -> list[bytes]:
    found: list[bytes] = []
    position = log.first_seq
    while items := log.read(position):
        assert all(isinstance(item, Record) for item in items)
        found += [item.payload for item in items if isinstance(item, Record)]
        position += len(items)
    return found


@pytest.mark.fault
def test_a_full_disk_accepts_nothing_says_so_keeps_all_and_goes_on(
    disk: SmallDisk, open_log: Callable[[LogLimits], Log]
) -> None:
    log = open_log(LIMITS)
    cursor = log.cursor("up")
    (disk.path / "ballast").write_bytes(bytes(SIZE // 2))
    stored = disk.fill(log)
    assert len(stored) > 5
    for _ in range(3):
        with pytest.raises(LogFullError):
            log.append_now([bytes(PAYLOAD)])
        assert log.status().accepting is False
        assert log.status().why_not
        assert read_all(log) == stored
    cursor.move(2)  # the reader goes on: its pages were there before
    log.close()
    log = open_log(LIMITS)  # a restart on the full disk reads on too
    assert read_all(log) == stored
    assert log.cursor("up").position == 2
    disk.free()
    log.append_now([b"next"])
    assert log.status().accepting is True
    assert read_all(log) == [*stored, b"next"]
    log.close()
    assert read_all(open_log(LIMITS)) == [*stored, b"next"]


@pytest.mark.fault
def test_what_was_delivered_gives_way_to_a_full_disk_and_nothing_else_does(
    disk: SmallDisk, open_log: Callable[[LogLimits], Log]
) -> None:
    log = open_log(LIMITS)
    cursor = log.cursor("up")
    stored = disk.fill(log)
    cursor.move(len(stored) * 3 // 4)
    if not disk.mounted:
        disk.free()
    for number in range(20):
        log.append_now([b"%d" % number + bytes(PAYLOAD)])
    status = log.status()
    assert status.evicted_records == 0
    assert log.first_seq <= cursor.position
    if disk.mounted:
        assert status.trimmed_records > 0
    log.close()


@pytest.mark.fault
def test_the_space_that_is_to_stay_free_stays_free(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log", LogLimits(min_free_bytes=2**62))
    with pytest.raises(LogFullError, match="to stay free"):
        log.append_now([b"x"])
    assert log.status().accepting is False
    assert log.next_seq == 1
    log.close()
    log = Log.open(tmp_path / "log", LogLimits(min_free_bytes=0))
    log.append_now([b"x"])
    assert log.status().accepting is True
    log.close()
