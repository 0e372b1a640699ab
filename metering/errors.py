"""Errors that say whose fault it is: the link, the frame, the meter, a key, or our own configuration."""


class MeterError(Exception):
    """Anything that kept a meter from being read. `meter` is the device's id where it is known."""

    kind = "meter"

    def __init__(self, message: str, *, meter: str = "") -> None:
        super().__init__(message)
        self.meter = meter


class TransportError(MeterError):
    """The link failed or nobody answered in time. Trying again may help."""

    kind = "transport"


class NoAnswerError(TransportError):
    """The meter did not answer within its time."""

    kind = "no-answer"


class LinkDownError(TransportError):
    """The line or the endpoint itself cannot be reached; the meter is not to blame."""

    kind = "link-down"


class FrameError(MeterError):
    """What came back is not the answer to what was asked: noise on the line, or a faulty peer."""

    kind = "frame"


class RefusedError(MeterError):
    """The meter said no. `code` is the protocol's own code (Modbus exception code, DLMS data-access-result)."""

    kind = "refused"

    def __init__(self, message: str, *, code: int, meter: str = "") -> None:
        super().__init__(message, meter=meter)
        self.code = code


class AuthError(MeterError):
    """Wrong key, wrong password or a counter out of order. Never reported as missing data."""

    kind = "auth"


class HaltedError(MeterError):
    """The meter is not asked with its keys for now: they are not here, or their counters are not known to be safe."""

    kind = "halted"


class CircuitOpenError(TransportError):
    """The meter has been silent for long; it is probed now and then and otherwise left alone."""

    kind = "circuit-open"


class ConfigError(Exception):
    """Our own configuration is wrong: stop, and point at file, line and key."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, key: str = "") -> None:
        place = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(f"{place}{key + ': ' if key else ''}{message}")
        self.file = file
        self.line = line
        self.key = key


class StorageError(Exception):
    """A store or the log could not do what was asked. `retry` tells whether the same call may succeed later."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class LogFullError(StorageError):
    """The log accepts nothing: the disk is full or failing. Nothing of the call was stored."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry=True)
