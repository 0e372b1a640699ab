"""Finds the answer of one meter in what comes over a line: a `collector.exchange.Receiver`. Owns no line.

Wake-up bytes, noise, our own request heard back and frames of other meters or of earlier requests are skipped.
"""

from collector.protocols.dlt645.frame import (
    FROM_METER,
    FUNCTION,
    MAX_READ_DATA,
    OVERHEAD,
    WAKE,
    Frame,
    address_text,
    is_address,
    matches,
    parse_frame,
)
from collector.protocols.dlt645.scanner import Scanner
from metering.errors import FrameError

MAX_HEARD = 64  # frames that one search for addresses keeps
_LISTED = 4  # other meters named in a complaint


class Dlt645Receiver:
    """Finds one answer of the meter `address` (pairs AA stand for any) to the function of `control`.

    `expect` is what a good answer's DATA begins with (its identifier), `limit` the longest DATA that is believed.
    """

    def __init__(self, address: str, control: int, expect: bytes = b"", *, limit: int = MAX_READ_DATA) -> None:
        self._address = address
        self._function = control & FUNCTION
        self._expect = expect
        self._scanner = Scanner(limit)
        self._skipped: list[str] = []

    def __call__(self, data: bytes) -> bytes | None:
        """Take the next bytes; return the whole answer (68 to 16) once it is there.

        Raises:
            FrameError: a damaged frame came and nothing that may still become the answer.

        """
        found = self._scanner.feed(data, self._wanted)
        head = self._scanner.spoiled
        if found is None and head and head[8] & FROM_METER and matches(self._address, address_text(head[1:7])):
            raise FrameError(self.complaint())
        return found

    def complaint(self) -> str:
        """Return what came instead of an answer; empty when nothing came."""
        scanner = self._scanner
        said = list(dict.fromkeys(self._skipped))[:_LISTED]
        if scanner.damage:
            said.append(scanner.damage)
        if not said and scanner.bytes:
            said.append(f"{scanner.bytes} bytes that are no frame")
        return "; ".join(said)

    def _wanted(self, raw: bytes) -> bool:
        frame = parse_frame(raw)
        reason = self._unwanted(frame)
        if reason and len(self._skipped) < MAX_HEARD:
            self._skipped.append(reason)
        return not reason

    def _unwanted(self, frame: Frame) -> str:
        if not frame.is_answer:
            return "our own request (echo)"
        if not matches(self._address, frame.address):
            return f"an answer of another meter ({frame.address})"
        if frame.function != self._function:
            return f"an answer to another function ({frame.function:02X})"
        if not frame.is_error and not frame.data.startswith(self._expect):
            return "an answer to another request"
        return ""


class Listener:
    """Hears everything until the time is over: which meters answered, and whether they spoke over each other."""

    def __init__(self, control: int, *, limit: int = MAX_READ_DATA) -> None:
        self._function = control & FUNCTION
        self._scanner = Scanner(limit)
        self._spoken = 0  # bytes but FE: all of them, and those of whole frames
        self._known = 0
        self.addresses: list[str] = []

    def __call__(self, data: bytes) -> bytes | None:
        """Take the next bytes; never content, because another meter may still speak."""
        self._spoken += len(data) - data.count(WAKE)
        while (raw := self._scanner.feed(data, lambda _: True)) is not None:
            data = b""
            self._known += len(raw) - raw.count(WAKE)
            frame = parse_frame(raw)
            if frame.is_answer and frame.function == self._function and len(self.addresses) < MAX_HEARD:
                self._note(frame)
        return None

    def complaint(self) -> str:
        """Return what was heard."""
        return f"{len(self.addresses)} answers, {self.strays} bytes that are no frame" if self._scanner.bytes else ""

    @property
    def strays(self) -> int:
        """Return how many bytes belong to no whole frame; wake-up bytes are not counted."""
        return self._spoken - self._known

    @property
    def damaged(self) -> bool:
        """Tell whether something like a frame came that was none: meters that spoke at the same time."""
        return bool(self._scanner.damage) or self.strays >= OVERHEAD // 2

    def _note(self, frame: Frame) -> None:
        address = address_text(frame.data) if len(frame.data) == 6 and is_address(frame.data) else frame.address
        if address not in self.addresses:
            self.addresses.append(address)
