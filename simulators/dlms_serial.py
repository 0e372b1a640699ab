"""Simulated DLMS meters on a serial line: HDLC on a pseudo-terminal at the true speed, begun directly or by mode E.

A pseudo-terminal has no parity and no speed of its own. What passes takes the time it would take, and a client that
has set another speed than the meters speak just now is not understood. Mode E (IEC 62056-21 annex E) begins at 300
baud with seven bits; those are 8N1 characters here, with the parity in the eighth bit.
"""

import errno
import os
import select
import termios
import threading
import time
import tty
from collections import deque
from pathlib import Path
from typing import NamedTuple

from collector.protocols.dlms import mode_e
from collector.protocols.modbus_times import character_time, parse_format
from collector.protocols.parity import strip_parity, with_parity
from metering.errors import FrameError
from simulators.dlms_delivery import Delivery
from simulators.dlms_hdlc import MAX_INFO, MAX_WINDOW, HdlcStations, Meters

READ_BYTES = 4096
STEP_S = 0.002  # characters are handed over as many at a time as pass in this time
STOP_TIMEOUT_S = 5.0
REACTION_S = 0.02  # how soon a meter answers in mode E (IEC 62056-21 6.14: 20 ms at least)
IDLE_S = 120.0  # a link without a word for so long falls back to its start
MODE_E_BITS = 10
MAX_LINE = 64  # bytes of a request in mode E

_SPEEDS = {
    getattr(termios, f"B{baud}"): baud for baud in (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
}


class _Speech(NamedTuple):
    """Bytes that wait for their time on the line, and the speed that the meters speak after them."""

    start: float
    data: bytes
    character_s: float
    then: int | None = None


class DlmsLine:
    """Meters on one line. `start()` opens the pseudo-terminal and returns the path to give to a serial client.

    `path` becomes a symbolic link to the terminal's present name. `mode_e`: the meters wait at 300 baud for an
    identification request and change to `baud` by it; otherwise they speak HDLC at `baud` from the beginning.
    `turnaround_s` is how long they think. It runs in a thread of its own, because an event loop's timers are coarse.
    """

    def __init__(
        self,
        meters: Meters,
        *,
        path: Path | None = None,
        baud: int = 9600,
        line_format: str = "8N1",
        mode_e: bool = False,
        turnaround_s: float = 0.0,
        max_info: int = MAX_INFO,
        window: int = MAX_WINDOW,
    ) -> None:
        self.path = path
        self.baud = baud
        self.bits = parse_format(line_format).bits
        self.mode_e = mode_e
        self.turnaround_s = turnaround_s
        self.misheard = 0  # bytes that came at another speed than the meters'
        self._links = (max_info, window)
        self._meters = meters
        self._thread: threading.Thread | None = None

    # -- life

    def start(self) -> Path:
        """Open the pseudo-terminal and serve it until `close`."""
        self._master, self._slave = os.openpty()  # ours stays open: a client may come and go
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._wake_read, self._wake_write = os.pipe()
        self._speeches: deque[_Speech] = deque()
        self._said = 0
        self._line_free = 0.0
        self._reset()
        name = Path(os.ttyname(self._slave))
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            self.path.symlink_to(name)
        self._thread = threading.Thread(target=self._run, name=f"dlms {name}", daemon=True)
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

    def _reset(self) -> None:
        """Wait as a meter does that nobody has spoken to."""
        self._speaks = mode_e.START_BAUD if self.mode_e else self.baud
        self._in_hdlc = not self.mode_e
        self._heard = b""
        self._stations = HdlcStations(self._meters, max_info=self._links[0], window=self._links[1])

    def _run(self) -> None:
        while True:
            timeout = self._speak(time.monotonic())
            ready, _, _ = select.select([self._master, self._wake_read], [], [], timeout)
            if self._wake_read in ready:
                return
            if self._master in ready:
                self._hear(os.read(self._master, READ_BYTES), time.monotonic())

    # -- listening

    def _hear(self, data: bytes, now: float) -> None:
        if now - self._line_free > IDLE_S and not self._speeches:
            self._reset()
        theirs = _SPEEDS.get(termios.tcgetattr(self._slave)[4], 0)
        if theirs != self._speaks:
            self.misheard += len(data)
            if self.mode_e and theirs == mode_e.START_BAUD:
                self._reset()  # a break in the talk brings an optical head's meter back to its start
            else:
                return
        bits = self.bits if self._in_hdlc else MODE_E_BITS
        self._line_free = max(now, self._line_free) + len(data) * character_time(self._speaks, bits)
        if not self._in_hdlc:
            self._hear_start(data)
            return
        for delivery in self._stations.heard(data):
            self._plan(delivery)

    def _plan(self, delivery: Delivery) -> None:
        start = self._line_free + self.turnaround_s + delivery.after_s
        character_s = character_time(self._speaks, self.bits)
        self._speeches.append(_Speech(start, delivery.data, character_s))
        self._line_free = start + len(delivery.data) * character_s

    def _hear_start(self, data: bytes) -> None:
        self._heard = (self._heard + strip_parity(data))[-MAX_LINE:]
        if not self._heard.endswith(b"\r\n"):
            return
        line, self._heard = self._heard, b""
        baud_char = next((char for char, baud in mode_e.BAUD_RATES.items() if baud == self.baud), "5")
        try:
            if b"/?" in line:
                self._identify(mode_e.parse_request(line[line.index(b"/?") :]), baud_char)
            elif mode_e.parse_acknowledge(line[line.index(b"\x06") :]) == baud_char:
                # The meter says the same and then changes over.
                self._say(mode_e.acknowledge(baud_char), then=self.baud)
        except (FrameError, ValueError):
            return

    def _identify(self, address: str, baud_char: str) -> None:
        serials = [meter.meter.serial for meter in self._meters.values()]
        if address and address not in serials:
            return
        maker = "MGT"
        self._say(mode_e.identification(maker, baud_char, (address or serials[0])[:16]))

    def _say(self, line: bytes, then: int | None = None) -> None:
        character_s = character_time(mode_e.START_BAUD, MODE_E_BITS)
        start = self._line_free + REACTION_S
        self._speeches.append(_Speech(start, with_parity(line), character_s, then))
        self._line_free = start + len(line) * character_s

    # -- speaking

    def _speak(self, now: float) -> float | None:
        """Put what is due on the line and return the seconds until more is (None: nothing waits)."""
        while self._speeches:
            speech = self._speeches[0]
            over = min(len(speech.data), max(0, int((now - speech.start) / speech.character_s + 1e-6)))
            if over > self._said:
                self._put(speech.data[self._said : over])
                self._said = over
            if self._said < len(speech.data):
                step = max(1, round(STEP_S / speech.character_s))
                due = speech.start + min(self._said + step, len(speech.data)) * speech.character_s
                return max(0.0, due - now)
            self._speeches.popleft()
            self._said = 0
            if speech.then is not None:
                self._speaks, self._in_hdlc = speech.then, True
        return None

    def _put(self, data: bytes) -> None:
        try:
            os.write(self._master, data)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):  # nobody reads: the bytes are gone, as on a wire
                raise
