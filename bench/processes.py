"""What /proc says of a process: CPU seconds, resident memory, children. Linux only; it starts and ends nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")
_PARENT, _USER, _SYSTEM = 1, 11, 12  # fields of /proc/PID/stat behind the name


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, all its threads, its own time and the system's for it."""
    fields = _stat(pid)[1]
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS


def resident(pid: int) -> int:
    """Return the memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def children(parent: int) -> Iterator[tuple[int, str]]:
    """Yield id and name of each child of a process."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name, fields = _stat(int(folder.name))
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[_PARENT]) == parent:
            yield int(folder.name), name


def _stat(pid: int) -> tuple[str, list[str]]:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    head, _, rest = text.rpartition(")")
    return head.partition("(")[2], rest.split()
