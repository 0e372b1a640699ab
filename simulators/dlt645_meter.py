"""One DL/T 645 meter as a line sees it: a request's frame in, an answer's frame out, and the fault that strikes it.

Framing and time on the wire are the servers'. The meter keeps its own civil time and believes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from collector.dlt645_profile import Dlt645Profile
from collector.protocols.dlt645.errors import NO_DATA, NOT_AUTHORISED, OTHER
from collector.protocols.dlt645.frame import BROADCAST, FROM_METER, HAS_MORE, IS_ERROR, Frame, address_bytes, matches
from collector.protocols.dlt645.identifiers import (
    BROADCAST_TIME,
    CONTROL,
    EDITIONS,
    FREEZE,
    READ_ADDRESS,
    di_text,
)
from collector.protocols.dlt645.load_record import GIVEN_TIME
from collector.protocols.dlt645.times import decode_clock, decode_stamp, encode_date, encode_time
from collector.protocols.dlt645.values import bcd, count_of
from collector.protocols.dlt645.writes import OPERATOR, PASSWORD, parse_control
from metering import timing
from metering.model import SECOND
from simulators.dlt645_esam import EncryptionMachine
from simulators.dlt645_faults import Dlt645Fault, Dlt645Faults, answers_endlessly, spoil_answer
from simulators.dlt645_history import Happening, History
from simulators.dlt645_switch import Relay
from simulators.dlt645_values import Shown
from simulators.meter import MICRO, Meter
from simulators.unit import Clock

BROADCAST_LIMIT = 300 * SECOND  # a meter believes a broadcast time that is not further off
MIDNIGHT_GUARD = timedelta(minutes=5)
_CLASSES = range(1, 7)


@dataclass(frozen=True)
class Dlt645Made:
    """How one meter is made. `absent` are identifiers that it does not have, `needs_module` refuses plain 1CH.

    `password` as shown (high digits first). None of them is a real meter's.
    """

    address: str
    password: bytes = bytes(PASSWORD)
    absent: frozenset[str] = frozenset()
    battery_low: bool = False
    needs_module: bool = False
    turnaround_s: float = 0.0
    wake: int = 4

    def __repr__(self) -> str:
        return f"Dlt645Made({self.address})"


class Said(NamedTuple):
    """An answer and the fault of the line that it is to suffer."""

    frame: Frame
    fault: Dlt645Fault | None


class RefusedRequestError(Exception):
    """The meter answers with this error byte."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Dlt645Meter:
    """One meter. `answer` serves a request; `press` is the customer's button."""

    def __init__(
        self,
        meter: Meter,
        profile: Dlt645Profile,
        made: Dlt645Made,
        *,
        happenings: Sequence[Happening] = (),
        faults: Dlt645Faults | None = None,
        clock: Clock = timing.now,
    ) -> None:
        self.meter = meter
        self.profile = profile
        self.made = made
        self.faults = faults if faults is not None else Dlt645Faults()
        self.clock = clock
        self.asked = 0
        self.wrong_passwords = 0
        self._shown = Shown(meter, profile)
        self._history = History(self._shown, list(happenings))
        self.relay = Relay(meter, self._history)
        self.machine = EncryptionMachine()
        self._rest: tuple[bytes, list[bytes]] = (b"", [])  # what follow-up requests are for, and what they get
        self._told = ""  # the day of the last broadcast that was believed

    def answer(self, request: Frame) -> Said | None:
        """Return the answer to a request; None where the meter says nothing."""
        now = self.clock()
        if request.is_answer or not self._hears(request.address) or self._history.failing(now):
            return None
        self.asked += 1
        fault = self.faults.strike()
        frame = answers_endlessly(fault, request) or self._serve(request, now)
        if frame is None:
            return None
        return Said(spoil_answer(fault, request, frame) if fault else frame, fault)

    def press(self) -> None:
        """Press the button: a permitted close is done."""
        self.relay.press(self.clock())

    def _hears(self, address: str) -> bool:
        return address == BROADCAST or matches(address, self.made.address)

    def _serve(self, request: Frame, now: int) -> Frame | None:
        edition = EDITIONS[self.profile.edition]
        try:
            if request.control == BROADCAST_TIME:
                self._broadcast_time(request.data, now)
                return None
            if request.address == BROADCAST:
                return None
            data, more = self._data(request, now, edition.read, edition.follow, edition.write)
        except RefusedRequestError as refused:
            control = request.control | FROM_METER | IS_ERROR
            return Frame(self.made.address, control, bytes((refused.code,)))
        return Frame(self.made.address, request.control | FROM_METER | (HAS_MORE if more else 0), data)

    def _data(self, request: Frame, now: int, read: int, follow: int, write: int) -> tuple[bytes, bool]:
        """Return the answer's DATA and whether more follows."""
        if request.control == read:
            return self._read(request.data, now)
        if request.control == follow:
            return self._follow(request.data)
        if request.control == READ_ADDRESS and self.profile.edition == "2007":
            return address_bytes(self.made.address), False
        if request.control == write:
            self._write(request.data, now)
        elif request.control == CONTROL:
            self._control(request, now)
        elif request.control != FREEZE:
            raise RefusedRequestError(OTHER)
        return b"", False

    # -- reading

    def _read(self, asked: bytes, now: int) -> tuple[bytes, bool]:
        size = EDITIONS[self.profile.edition].size
        wanted, argument = asked[:size], asked[size:]
        di = di_text(wanted)
        found = None
        if len(wanted) == size and di not in self.made.absent:
            found = self._item(di, argument, now)
        if found is None:
            raise RefusedRequestError(NO_DATA)
        room = self.profile.max_data - size
        if len(found) <= room:
            return wanted + found, False
        step = room - 1  # a follow-up frame ends with its sequence number
        parts = [found[at : at + step] for at in range(0, len(found), step)]
        self._rest = wanted, parts[1:]
        return wanted + parts[0], True

    def _follow(self, asked: bytes) -> tuple[bytes, bool]:
        wanted, parts = self._rest
        number = asked[-1] if asked else 0
        if asked[:-1] != wanted or not 1 <= number <= len(parts):
            raise RefusedRequestError(NO_DATA)
        return wanted + parts[number - 1] + asked[-1:], number < len(parts)

    def _item(self, di: str, argument: bytes, now: int) -> bytes | None:
        shown = self.meter.clock(now)
        if len(di) == 8:
            for prefix, find in (("06", self._load_records), ("05", self._freeze), ("03", self._event)):
                if di.startswith(prefix):
                    return find(di, argument, shown)
            if di.startswith(("1D", "1E")):
                return self._event(di, argument, shown)
        parameter = self._parameter(di, now)
        if parameter is not None:
            return parameter
        current = self._shown.read(di, now)
        if current is not None or len(di) != 8:
            return current
        return self._history.settlement(f"{di[:-2]}00", int(di[-2:], 16), shown)

    def _parameter(self, di: str, now: int) -> bytes | None:
        """Return what is set in the meter: clock, address, status words, intervals, settlement days."""
        civil = self._shown.civil(self.meter.clock(now))
        clock, records = self.profile.clock, self.profile.load_record
        known: dict[str, bytes] = {
            "04000401": address_bytes(self.made.address),
            "C032": address_bytes(self.made.address),
        }
        known["04000402"] = bytes.fromhex(self.meter.serial[-12:].rjust(12, "0"))[::-1]
        if clock is not None:
            known |= {clock.date: encode_date(civil), clock.time: encode_time(civil)}
        if records is not None:
            made = {table.number: round(table.interval) // 60 for table in records.classes}
            known |= {f"04000A{number + 1:02X}": bcd(made.get(number, 0), 2) for number in _CLASSES}
            known["04000901"] = bytes((sum(1 << number - 1 for number in made),))
        if self.profile.settlement is not None:
            known |= dict(zip(self.profile.settlement.days, (b"\x00\x01", b"\x99\x99", b"\x99\x99"), strict=False))
        for table in self.profile.status:
            known[table.di] = self._status(table.di, now).to_bytes(2, "little")
        known["04000503"] = self._status("04000503", now).to_bytes(2, "little")
        return known.get(di)

    def _status(self, di: str, now: int) -> int:
        if di == "04000501":
            reverse = self.meter.values(now).get("1-0:16.7.0*255", 0) < 0
            return self.made.battery_low << 2 | reverse << 4
        if di == "04000503":
            return self.relay.word
        return 0

    def _load_records(self, di: str, argument: bytes, now: int) -> bytes | None:
        records = self.profile.load_record
        number, what = int(di[2:4], 16), int(di[6:8], 16)
        made = next((table for table in records.classes if table.number == number), None) if records else None
        if made is None or not argument:
            return None
        try:
            start = decode_stamp(argument[1:6]) if what == GIVEN_TIME else None
        except ValueError:
            raise RefusedRequestError(OTHER) from None
        return self._history.load_records(made, what, count_of(argument[:1]), start, now)

    def _freeze(self, di: str, argument: bytes, now: int) -> bytes | None:
        del argument
        made = self.profile.daily_freeze
        if made is None or not di.startswith(made.prefix):
            return None
        return self._history.freeze(di[4:6], int(di[6:8], 16), now)

    def _event(self, di: str, argument: bytes, now: int) -> bytes | None:
        del argument
        for log in self.profile.event:
            if di == log.count:
                return bcd(self._history.count(log, now), 3)
            if di[:-2] == log.di[:-2]:
                return self._history.event(log, int(di[-2:], 16), now)
        return None

    # -- writing

    def _control(self, request: Frame, now: int) -> None:
        if self.made.needs_module:
            block = self.machine.open(self.made.address, request.data)
        else:
            asked = parse_control(request)
            if asked is None:
                raise RefusedRequestError(NOT_AUTHORISED)
            self._check(asked.level, asked.password)
            block = request.data[-8:]
        if block is None:
            raise RefusedRequestError(NOT_AUTHORISED)
        self._switch(block, now)

    def _switch(self, block: bytes, now: int) -> None:
        try:
            until = decode_stamp(block[2:])
        except ValueError:
            until = None
        if until is None or self._shown.instant(until) < self.meter.clock(now):
            raise RefusedRequestError(OTHER)
        if not self.relay.operate(block[0], now):
            raise RefusedRequestError(OTHER)

    def _check(self, level: int, password: bytes) -> None:
        if level != self.profile.password_level or password != self.made.password:
            self.wrong_passwords += 1
            raise RefusedRequestError(NOT_AUTHORISED)

    def _write(self, data: bytes, now: int) -> None:
        clock = self.profile.clock
        di = di_text(data[:4])
        self._check(data[4] if len(data) > 4 else 0, data[5 : 5 + PASSWORD][::-1])
        value = data[5 + PASSWORD + OPERATOR :]
        if clock is None or di not in (clock.date, clock.time):
            raise RefusedRequestError(NO_DATA)
        civil = self._shown.civil(self.meter.clock(now))
        parts = {clock.date: encode_date(civil), clock.time: encode_time(civil)} | {di: value}
        try:
            moment = decode_clock(parts[clock.date], parts[clock.time])
        except ValueError:
            raise RefusedRequestError(OTHER) from None
        self._set_clock(self._shown.instant(moment), now)

    def _set_clock(self, wanted: int, now: int) -> None:
        made = self.meter.settings
        drift = (now - made.installed_at) * made.drift_ppm / MICRO
        self.meter.set_clock(offset_s=(wanted - now - drift) / SECOND, drift_ppm=made.drift_ppm)
        self._history.happened("clock-set", wanted)

    def _broadcast_time(self, data: bytes, now: int) -> None:
        clock = self.profile.clock
        if clock is None or clock.broadcast == "none":
            return
        try:
            moment = decode_stamp(data, clock.broadcast)
        except ValueError:
            return
        shown = self.meter.clock(now)
        if moment is None or abs(self._shown.instant(moment) - shown) > BROADCAST_LIMIT:
            return
        civil = self._shown.civil(shown)
        near_midnight = (civil - MIDNIGHT_GUARD).date() != (civil + MIDNIGHT_GUARD).date()
        if near_midnight or self._told == str(civil.date()):
            return
        self._told = str(civil.date())
        self._set_clock(self._shown.instant(moment), now)
