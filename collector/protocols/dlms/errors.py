"""What can go wrong between two ends of a DLMS association, named. Not faults of the link or of a frame."""

from metering.errors import AuthError, RefusedError, TransportError


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
