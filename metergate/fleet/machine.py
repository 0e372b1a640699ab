"""What processes cost on this machine: CPU time, memory, disk, open files. Nothing of the fleet itself."""

import os
import re
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from metering.errors import ConfigError

KIB = 1024


class Cost(NamedTuple):
    """What some processes have cost: CPU seconds since their start, and what they hold of memory now, in bytes."""

    cpu_s: float = 0.0
    resident: int = 0
    threads: int = 0


def cost(pids: Iterable[int]) -> Cost:
    """Return the sum over these processes; one that has ended counts for nothing."""
    total = Cost()
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            continue
        spent = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime: proc(5)
        found = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
        resident, threads = int(found.get("VmRSS", 0)) * KIB, int(found.get("Threads", 0))
        total = Cost(total.cpu_s + spent, total.resident + resident, total.threads + threads)
    return total


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder and below."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def allow_open_files(needed: int, what: str) -> None:
    """Raise this process's limit of open files so that `needed` may be open; its children inherit it.

    Raises:
        ConfigError: the system's hard limit is lower.

    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"{what} need {needed} open files in one process, and this user may have {hard}: raise the hard limit "
            "(ulimit -Hn, or LimitNOFILE of the unit), or simulate fewer gateways"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
