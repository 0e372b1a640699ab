"""Runs the head-end of a simulated fleet so that neither it nor the broker outlives a parent that was killed.

Called with the broker's process and the words of a `metergate` command. The parent's end closes standard input.
"""

import contextlib
import os
import signal
import sys
import threading

from metergate.cli import main as run


def _watch(broker: int) -> None:
    while os.read(sys.stdin.fileno(), 1024):  # not by `sys.stdin`: a thread inside of it breaks the end of Python
        pass
    for pid in (broker, os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def main() -> None:
    """Run as a process of its own."""
    broker = int(sys.argv.pop(1))
    threading.Thread(target=_watch, args=(broker,), name="parent-watch", daemon=True).start()
    run()


if __name__ == "__main__":
    main()
