"""A wire inside the process: Modbus requests answered by simulated units, without a socket. For no real site."""

import time
from collections.abc import Mapping

from collector.exchange import Exchange
from collector.links.link import LinkParameters, LinkStatus, turnaround_limit
from collector.protocols.modbus import check_reply
from metering.errors import NoAnswerError
from simulators.unit import Unit


class InProcessLink:
    """A `collector.links.Link` to units of this process; nothing is awaited, all else of a read is as on a wire."""

    def __init__(self, name: str, units: Mapping[int, Unit]) -> None:
        self.name = name
        self.parameters = LinkParameters()
        self.sent_at = 0.0
        self._units = units
        self._connects = 0

    async def exchange(self, exchange: Exchange, timeout_s: float) -> bytes:
        """Return the PDU of a unit's reply, checked as `Link.exchange` says; a unit that is not there is silent."""
        self._connects = self._connects or 1
        self.sent_at = time.monotonic()
        unit = self._units.get(exchange.unit)
        if unit is None:
            raise NoAnswerError(f"unit {exchange.unit} did not answer within {timeout_s:.1f} s")
        pdu = unit.answer(exchange.pdu).pdu
        check_reply(exchange.pdu, pdu)
        return pdu

    def timeout(self, exchange: Exchange) -> float:
        """Return the turnaround limit: there is no network in between."""
        return turnaround_limit(exchange.turnaround_s)

    def wire_time(self, exchange: Exchange) -> float:
        """Return 0: there is no wire."""
        del exchange
        return 0.0

    def ready_at(self, unit: int) -> float:
        """Return 0: nothing comes late."""
        del unit
        return 0.0

    def reachable(self) -> bool:
        """Return True: there is nothing that could be cut."""
        return True

    def status(self) -> LinkStatus:
        """Return how the wire fares."""
        return LinkStatus(connected=bool(self._connects), connects=self._connects, strays=0, last_error="")

    async def close(self) -> None:
        """Do nothing: there is nothing to let go."""
