"""SIGINT and SIGTERM end a process in order."""

import asyncio
import signal


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at SIGINT and SIGTERM."""
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
