import asyncio
import random
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

Run = Callable[[Coroutine[Any, Any, None]], None]


class VirtualTime(selectors.SelectSelector):
    """A clock that jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits for something that will never come"
        self.now += max(0.0, timeout)
        return super().select(0)


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs a coroutine in virtual time."""
    random.seed(7)  # the jitter of probes

    def run(work: Coroutine[Any, Any, None]) -> None:
        clock = VirtualTime()
        monkeypatch.setattr(time, "monotonic", clock)
        loop = asyncio.SelectorEventLoop(clock)
        try:
            loop.run_until_complete(work)
        finally:
            loop.close()
            monkeypatch.undo()

    return run
