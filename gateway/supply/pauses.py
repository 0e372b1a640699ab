"""When each open thing of the supply control is looked at again: pauses that grow, by the monotonic clock."""

import asyncio

AGAIN_S = (2.0, 5.0, 15.0, 60.0)  # pauses before a meter that could not be asked is asked again; the last one repeats


class Pauses:
    """Pauses by name: a command's id, or what else is waited for."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}  # tries, and when it is due

    def is_due(self, name: str) -> bool:
        """Tell whether its pause is over; without one it is."""
        return asyncio.get_running_loop().time() >= self._known.get(name, (0, 0.0))[1]

    def later(self, name: str, seconds: float | None = None) -> None:
        """Look at it again after so long, or after a pause that grows with each time."""
        tries, _ = self._known.get(name, (0, 0.0))
        pause = AGAIN_S[min(tries, len(AGAIN_S) - 1)] if seconds is None else seconds
        self._known[name] = (tries + (seconds is None), asyncio.get_running_loop().time() + pause)

    def end(self, name: str) -> None:
        """Have it looked at now."""
        self._known.pop(name, None)
