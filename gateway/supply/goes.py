"""A head-end's words that policy still allows a command: how old each is, when one is asked for. It judges none."""

import asyncio

from gateway.supply.guard import GO_S
from metering.model import SECOND
from metering.supply import Go

ASK_GO_S = 5.0  # a go that does not come is asked for again after this
MAX_GOES = 20_000


class Goes:
    """The newest go of each command, and when it was asked for last."""

    def __init__(self) -> None:
        self._given: dict[str, tuple[int, float]] = {}
        self._asked: dict[str, float] = {}

    def take(self, given: Go) -> bool:
        """Take a go; False where too many are kept that came just now: it is asked for again."""
        clock = asyncio.get_running_loop().time()
        if len(self._given) >= MAX_GOES and given.command not in self._given:
            self._given = {name: each for name, each in self._given.items() if clock - each[1] <= GO_S}
            if len(self._given) >= MAX_GOES:
                return False
        self._given[given.command] = (given.at, clock)
        return True

    def age(self, command: str, now: int) -> float | None:
        """Return a go's age in seconds by its own stamp, or since it came, whichever is more; None without one.

        `now` in microseconds. A stamp that lies ahead by more than a go is good for makes it -1, which is no age.
        """
        given = self._given.get(command)
        if given is None:
            return None
        told = (now - given[0]) / SECOND
        return max(told, asyncio.get_running_loop().time() - given[1]) if told >= -GO_S else -1.0

    def is_to_be_asked(self, command: str) -> bool:
        """Tell whether it is time to ask for a go, and take it as asked."""
        clock = asyncio.get_running_loop().time()
        if clock - self._asked.get(command, -ASK_GO_S) < ASK_GO_S:
            return False
        self._asked[command] = clock
        return True

    def forget(self, command: str) -> None:
        """Let go of what is known of a command that has ended."""
        self._given.pop(command, None)
        self._asked.pop(command, None)
