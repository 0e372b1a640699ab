"""What can go wrong between two ends of a DLMS association, named."""

from metering.errors import AuthError, FrameError, RefusedError, TransportError


class WrongPasswordError(AuthError):
    """One end does not know the secret of the association (LLS password or HLS secret)."""


class WrongKeyError(AuthError):
    """A tag does not fit: wrong key, wrong authentication key, wrong system title, or a message that was changed."""


class CounterTooLowError(AuthError):
    """The meter has seen this invocation counter or a higher one. `expected`: the lowest that it takes (0: untold)."""

    def __init__(self, message: str, *, expected: int = 0, meter: str = "") -> None:
        super().__init__(message, meter=meter)
        self.expected = expected


class WrongClientError(RefusedError):
    """The meter has no association for this client, or not with this context."""


class BusyMeterError(RefusedError):
    """The meter serves somebody else just now; trying later may help."""


class LinkClosedError(TransportError):
    """The data link is not open, or the meter has closed it (its inactivity time-out); opening it anew may help."""


class ChangedAnswerError(FrameError):
    """An answer's tag does not fit under keys that have opened answers of this meter: the message was changed."""


class ReplayedAnswerError(FrameError):
    """An answer came under an invocation counter of the meter's that was seen before."""


class BlockError(FrameError):
    """A block of a long transfer is missing, came again or is empty: the transfer is given up."""
