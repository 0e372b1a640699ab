"""How long exchanges take on a wire when every meter behaves: for plans and benchmarks. Measures nothing."""

from collections.abc import Sequence

from collector.exchange import Exchange
from collector.links.link import LinkParameters
from collector.protocols import modbus_times


def cycle_time(parameters: LinkParameters, exchanges: Sequence[Exchange]) -> float:
    """Return the seconds that one round of these exchanges takes on such a link when every meter behaves.

    On a serial line: the characters of requests and replies, silent intervals and each meter's own turnaround.
    """
    if not parameters.baud:
        return sum(parameters.latency_s + exchange.turnaround_s for exchange in exchanges)
    bits = modbus_times.parse_format(parameters.line_format).bits
    return sum(
        parameters.latency_s
        + modbus_times.exchange_time(
            len(exchange.pdu), exchange.reply_length, parameters.baud, bits, exchange.turnaround_s
        )
        for exchange in exchanges
    )
