"""A serial line with Modbus RTU units on it: a pseudo-terminal that keeps the true time of every character.

The line is half duplex as RS-485 is: a request that comes while somebody still speaks is lost and spoils what is being
said, and a request that does not keep the silent interval is not recognised as a frame. A pseudo-terminal refuses
parity, so its client opens it without (`8N1`) whatever the line's own format is; the format only counts for the time.
A client that has set another speed than the line's is not understood.
"""

import errno
import heapq
import itertools
import os
import select
import termios
import threading
import time
import tty
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from collector.protocols.modbus_adu import open_rtu
from collector.protocols.modbus_times import character_time, parse_format, silent_interval
from metering.errors import FrameError
from simulators.faults import Answer, deliver
from simulators.unit import Unit

READ_BYTES = 4096
MIN_STEP_S = 0.001  # characters are handed over singly, or as many as pass in this time on a fast line
BABBLE_CHARACTERS = 16
STOP_TIMEOUT_S = 5.0
BROADCAST = 0


@dataclass
class LineCounters:
    """What was heard on the line. `early`: requests that did not keep the silent interval."""

    requests: int = 0
    answers: int = 0
    foreign: int = 0  # to a unit that is not on this line
    bad_frames: int = 0
    collisions: int = 0
    early: int = 0
    misheard: int = 0  # bytes at another speed


class Speech(NamedTuple):
    """Bytes that wait for their time on the line.

    `babbler` is the unit that goes on with noise after them, until `until` or (0) until its fault is taken away.
    """

    start: float
    order: int
    data: bytes
    babbler: Unit | None = None
    until: float = 0.0


class RtuLine:
    """Units on one line. `start()` opens the pseudo-terminal and returns the path to give to a serial client.

    `path` becomes a symbolic link to the terminal's present name, so that configurations may name it. It runs in a
    thread of its own, because an event loop's timers are coarser than a character.
    """

    def __init__(
        self, units: Mapping[int, Unit], *, path: Path | None = None, baud: int = 9600, line_format: str = "8E1"
    ) -> None:
        bits = parse_format(line_format).bits
        self.units = units
        self.path = path
        self.counters = LineCounters()
        self._speed = getattr(termios, f"B{baud}", None)  # None: a terminal cannot tell this one
        self.character_s = character_time(baud, bits)
        self.silence_s = silent_interval(baud, bits)
        self._step = max(1, round(MIN_STEP_S / self.character_s))
        self._order = itertools.count()
        self._waiting: list[Speech] = []
        self._speech: Speech | None = None
        self._said = 0  # characters of the present speech that are over
        self._heard = b""
        self._spoiled = False  # what is being heard is no frame any more
        self._quiet_since = 0.0  # when the last character on the line ended, or will
        self._thread: threading.Thread | None = None

    def start(self) -> Path:
        """Open the pseudo-terminal and serve it until `close`."""
        self._master, self._slave = os.openpty()  # ours stays open: a client may come and go
        tty.setraw(self._slave)
        if self._speed is not None:
            attributes = termios.tcgetattr(self._slave)
            termios.tcsetattr(self._slave, termios.TCSANOW, [*attributes[:4], self._speed, self._speed, attributes[6]])
        os.set_blocking(self._master, False)
        self._wake_read, self._wake_write = os.pipe()
        name = Path(os.ttyname(self._slave))
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            self.path.symlink_to(name)
        self._thread = threading.Thread(target=self._run, name=f"rtu {name}", daemon=True)
        self._thread.start()
        return self.path or name

    def close(self) -> None:
        """Stop, and take the link away."""
        if self._thread is None:
            return
        os.write(self._wake_write, b"x")
        self._thread.join(STOP_TIMEOUT_S)
        self._thread = None
        for descriptor in (self._master, self._slave, self._wake_read, self._wake_write):
            os.close(descriptor)
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            due = self._work(time.monotonic())
            timeout = None if due is None else max(0.0, due - time.monotonic())
            ready, _, _ = select.select([self._master, self._wake_read], [], [], timeout)
            if self._wake_read in ready:
                return
            if self._master in ready:
                self._hear(os.read(self._master, READ_BYTES), time.monotonic())

    def _work(self, now: float) -> float | None:
        """Do what is due and return when the next thing is (None: nothing but a request can happen)."""
        if self._heard and now >= self._quiet_since + self.silence_s:
            frame, self._heard = self._heard, b""
            self._understand(frame)
        if self._speech is None and self._waiting and self._waiting[0].start <= now:
            self._begin(heapq.heappop(self._waiting))
        if self._speech is not None:
            self._speak(now)
        dues = []
        if self._heard:
            dues.append(self._quiet_since + self.silence_s)
        if self._speech is not None:
            said = min(self._said + self._step, len(self._speech.data))
            dues.append(self._speech.start + said * self.character_s)
        elif self._waiting:
            dues.append(self._waiting[0].start)
        return min(dues, default=None)

    # -- listening

    def _hear(self, data: bytes, now: float) -> None:
        if self._speed is not None and termios.tcgetattr(self._slave)[4] != self._speed:
            self.counters.misheard += len(data)
            return
        if self._speech is not None:
            self.counters.collisions += 1
            rest = self._speech.data[self._said :]
            spoiled = bytes(byte ^ 0xA5 for byte in rest)
            self._speech = self._speech._replace(data=self._speech.data[: self._said] + spoiled)
            return
        if not self._heard:
            self._spoiled = now < self._quiet_since + self.silence_s
            self.counters.early += self._spoiled
        self._heard += data
        self._quiet_since = max(self._quiet_since, now) + len(data) * self.character_s

    def _understand(self, frame: bytes) -> None:
        try:
            address, pdu = open_rtu(frame)
        except FrameError:
            self.counters.bad_frames += 1
            return
        if self._spoiled:
            return
        self.counters.requests += 1
        unit = self.units.get(address)
        if unit is None or address == BROADCAST:
            self.counters.foreign += unit is None
            return
        reply = unit.answer(pdu)
        answer = Answer(address, reply.pdu, None, unit.before)
        delivery = deliver(reply.fault, answer, unit.faults.chance)
        unit.before = answer.frame()
        # The silent interval is how a meter knows that the request has ended, so it never begins sooner.
        start = self._quiet_since + max(unit.turnaround_s, self.silence_s)
        for piece in delivery.pieces:
            start += piece.after_s
            self._plan(Speech(start, next(self._order), piece.data))
            start += len(piece.data) * self.character_s
        if delivery.then == "babble":
            until = start + delivery.seconds if delivery.seconds else 0.0
            self._plan(Speech(start, next(self._order), b"", unit, until))
        self.counters.answers += bool(delivery.pieces)

    # -- speaking

    def _plan(self, speech: Speech) -> None:
        heapq.heappush(self._waiting, speech)

    def _begin(self, speech: Speech) -> None:
        if self._heard:  # two speak at once: what the master is asking is lost
            self.counters.collisions += 1
            self._spoiled = True
        self._speech = speech._replace(start=max(speech.start, self._quiet_since))
        self._said = 0

    def _speak(self, now: float) -> None:
        speech = self._speech
        if speech is None:
            return
        over = min(len(speech.data), int((now - speech.start) / self.character_s + 1e-6))
        if over > self._said:
            self._put(speech.data[self._said : over])
            self._said = over
        if self._said < len(speech.data):
            return
        end = speech.start + len(speech.data) * self.character_s
        self._quiet_since = max(self._quiet_since, end)
        self._speech = None
        unit = speech.babbler
        if unit is not None and (end < speech.until or (not speech.until and unit.faults.stands("babble"))):
            noise = unit.faults.chance.randbytes(BABBLE_CHARACTERS)
            self._begin(speech._replace(start=end, data=noise))

    def _put(self, data: bytes) -> None:
        try:
            os.write(self._master, data)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):  # nobody reads: the bytes are gone, as on a wire
                raise
