"""A file system of its own that a test may fill up and empty again. It needs root, to mount a small tmpfs."""

import errno
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_MIB = 24
CHUNK = bytes(64 << 10)


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """Make `place` a file system of its own, of DISK_MIB."""
    assert os.geteuid() == 0, "this test mounts a small tmpfs: run it as root"
    assert shutil.which("mount"), "mount is missing: apt-get install mount"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Take all the space that is left."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        while _write_some(file):
            pass
    return filler


def _write_some(file: io.FileIO) -> bool:
    try:
        return file.write(CHUNK) > 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
