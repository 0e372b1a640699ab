"""A line of simulated DL/T 645 meters in this process, with a time of its own that every exchange moves on."""

from dataclasses import dataclass, field

from collector.dlt645_profile import Dlt645Profile, load_dlt645_profile
from collector.drivers.dlt645_talk import Dlt645Talk
from collector.exchange import Answer, Exchange
from collector.protocols.dlt645.frame import Frame, parse_frame
from metering.errors import FrameError, NoAnswerError
from metering.model import SECOND
from metering.timing import from_rfc3339
from simulators.dlt645_faults import Dlt645Fault, Dlt645Faults
from simulators.dlt645_history import Happening
from simulators.dlt645_line import Dlt645Line
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.meter import Meter, MeterSettings

ADDRESS = "000000004321"
START = from_rfc3339("2026-11-24T04:07:00Z")  # noon and a little in Shanghai


@dataclass
class Site:
    """One line: meters by address, the time, and what was asked."""

    now: int = START
    step: int = SECOND // 5  # what an exchange takes
    pieces: int = 1000  # bytes handed over at a time
    meters: dict[str, Dlt645Meter] = field(default_factory=dict)
    asked: list[Frame] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)

    def add(
        self,
        profile: str | Dlt645Profile = "dlt645_2007_3p",
        address: str = ADDRESS,
        *,
        faults: list[Dlt645Fault] | None = None,
        happenings: list[Happening] | None = None,
        offset_s: float = 0.0,
        made: dict | None = None,
    ) -> Dlt645Meter:
        """Hang a meter on the line."""
        model = load_dlt645_profile(profile) if isinstance(profile, str) else profile
        phases = 3 if model.phases == 3 else 1
        settings = MeterSettings(
            seed=7, phases=phases, serial=address, start_wh=5_000_000, load="pv", offset_s=offset_s
        )
        self.meters[address] = Dlt645Meter(
            Meter(settings),
            model,
            Dlt645Made(address, **(made or {})),
            happenings=happenings or [],
            faults=Dlt645Faults(faults or []),
            clock=lambda: self.now,
        )
        return self.meters[address]

    def talk(self, address: str = ADDRESS) -> Dlt645Talk:
        """Open a conversation with a meter of the line."""
        return Dlt645Talk(self.transact, self.meters[address].profile, address, "m1")

    async def transact(self, exchange: Exchange) -> Answer:
        """Carry one exchange; the meter is asked in the middle of it."""
        asked_at = self.now
        self.now += self.step // 2
        self.exchanges.append(exchange)
        self.asked.append(parse_frame(exchange.pdu))
        line = Dlt645Line(self.meters, 11 / 2400)
        heard = b"".join(speech.data for speech in line.hear(line.scanner(), exchange.pdu))
        self.now += self.step - self.step // 2
        if exchange.receiver is None:
            assert exchange.reply_length == 0
            return Answer(b"", asked_at, self.now)
        for at in range(0, len(heard), self.pieces):
            reply = exchange.receiver(heard[at : at + self.pieces])
            if reply is not None:
                return Answer(reply, asked_at, self.now)
        if heard:
            raise FrameError(exchange.receiver.complaint())
        raise NoAnswerError("no answer in time")
