"""Finds whole frames in a stream of bytes, whoever sent them. What is an answer is the receiver's business."""

from collections.abc import Callable

from collector.protocols.dlt645.frame import (
    HEAD,
    OVERHEAD,
    START,
    frame_fault,
    frame_length,
    is_address,
)

_SHORT = "short"
_NOTHING = "nothing"


class Scanner:
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
