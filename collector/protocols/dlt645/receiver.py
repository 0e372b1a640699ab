"""Finds the answer of one meter in what comes over a line: a `collector.exchange.Receiver`. Owns no line.

Wake-up bytes, noise, our own request heard back and frames of other meters or of earlier requests are skipped.
"""

from collections.abc import Callable

from collector.protocols.dlt645.frame import (
    FROM_METER,
    FUNCTION,
    HEAD,
    MAX_READ_DATA,
    OVERHEAD,
    START,
    WAKE,
    Frame,
    address_text,
    frame_fault,
    frame_length,
    is_address,
    matches,
    parse_frame,
)
from metering.errors import FrameError

MAX_HEARD = 64  # frames that one search for addresses keeps
_LISTED = 4  # other meters named in a complaint
_SHORT = "short"
_NOTHING = "nothing"


class _Scanner:
    """Finds whole frames among noise; keeps no more than one frame of the longest kind and the last piece."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self.damage = ""
        self.spoiled = b""  # the head of a frame that came damaged, where nothing else can still become one
        self._buffer = b""

    def feed(self, data: bytes, judge: Callable[[bytes], bool]) -> bytes | None:
        """Take bytes; return the first whole frame that `judge` accepts. Frames it does not want are dropped."""
        self.bytes += len(data)
        self._buffer += data
        at = self._next(0)
        keep = len(self._buffer)  # the first place where a frame may still become whole
        damaged_to = 0
        while at < len(self._buffer):
            body = self._buffer[at : at + OVERHEAD + self.limit]
            fault = self._fault(body)
            if not fault:
                end = at + frame_length(body)
                if judge(body[: end - at]):
                    self._buffer = self._buffer[end:]
                    return body[: end - at]
                at, keep = self._next(end), len(self._buffer)
                continue
            if fault == _SHORT:
                keep = min(keep, at)
            elif fault != _NOTHING:
                self.damage = fault
                self.spoiled = body[:HEAD]
                damaged_to = at + min(frame_length(body), len(body))
            at = self._next(at + 1)
        if damaged_to <= keep < len(self._buffer):
            self.spoiled = b""
        self._buffer = self._buffer[keep:]
        return None

    def _fault(self, body: bytes) -> str:
        """Return why no frame begins here: `_SHORT`: more must come, `_NOTHING`, what is damaged; empty: one does."""
        if len(body) < HEAD:
            return _NOTHING if body[7:8] not in (b"", b"\x68") else _SHORT
        if body[7] != START or not is_address(body[1:7]):
            return _NOTHING
        if frame_length(body) > OVERHEAD + self.limit:
            return f"a frame claims {body[9]} bytes of data, more than the {self.limit} expected"
        return _SHORT if len(body) < frame_length(body) else frame_fault(body)

    def _next(self, at: int) -> int:
        found = self._buffer.find(START, at)
        return len(self._buffer) if found < 0 else found


class Dlt645Receiver:
    """Finds one answer of the meter `address` (pairs AA stand for any) to the function of `control`.

    `expect` is what a good answer's DATA begins with (its identifier), `limit` the longest DATA that is believed.
    """

    def __init__(self, address: str, control: int, expect: bytes = b"", *, limit: int = MAX_READ_DATA) -> None:
        self._address = address
        self._function = control & FUNCTION
        self._expect = expect
        self._scanner = _Scanner(limit)
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
        self._scanner = _Scanner(limit)
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
