"""What a driver needs to know of a meter's secrets and counters. Where they are kept is not its business."""

from typing import Protocol


class MeterKeys:
    """One meter's secrets. Never shown: `repr` and `str` say only which of them there are.

    Lengths in bytes: `encryption` (global unicast, GUEK), `authentication` (GAK), `broadcast` (GBEK) and `master` (KEK)
    16; `password` is the LLS password or the secret of HLS 3, 4 and 6, or a DL/T 645 password of 3 bytes as shown (high
    digits first); `operator` the DL/T 645 operator code of 4 bytes. Empty: there is none.
    """

    __slots__ = ("authentication", "broadcast", "encryption", "master", "operator", "password")

    def __init__(
        self,
        *,
        encryption: bytes = b"",
        authentication: bytes = b"",
        broadcast: bytes = b"",
        master: bytes = b"",
        password: bytes = b"",
        operator: bytes = b"",
    ) -> None:
        self.encryption = encryption
        self.authentication = authentication
        self.broadcast = broadcast
        self.master = master
        self.password = password
        self.operator = operator

    def __repr__(self) -> str:
        there = ", ".join(name for name in self.__slots__ if getattr(self, name))
        return f"MeterKeys({there})"

    def __reduce__(self) -> str:
        raise TypeError("keys are not pickled")


class InvocationCounter(Protocol):
    """The invocation counter of one key towards one meter: each value is given out once, ever, over any crash."""

    def next(self) -> int:
        """Return a value that was never given out before; it is consumed whatever becomes of it.

        Raises:
            AuthError: the counter is at its end, or halted until the meter's own counter is known.

        """
        ...

    def raise_to(self, expected: int) -> None:
        """Take the meter's word (read without authentication) that it wants at least `expected`. Never goes back.

        Raises:
            AuthError: it is too far ahead to be believed: a person must say so.

        """
        ...

    def skip(self) -> bool:
        """Go on though the meter does not tell its own counter, leaving a distance; False where that is not enough."""
        ...

    @property
    def known(self) -> bool:
        """Tell whether values may be given out; False: the meter's counter has to be read first."""
        ...
