"""How long exchanges take on a wire when every meter behaves: for plans and benchmarks. Measures nothing."""

from collections.abc import Sequence

from collector.exchange import Exchange
from collector.links.link import LinkParameters, character_time, silence
from collector.protocols import modbus_times


def cycle_time(parameters: LinkParameters, exchanges: Sequence[Exchange]) -> float:
    """Return the seconds that one round of these exchanges takes on such a link when every meter behaves.

    On a serial line: the characters of requests and replies, silent intervals and each meter's own turnaround.
    """
    return sum(parameters.latency_s + _exchange_time(parameters, exchange) for exchange in exchanges)


def _exchange_time(parameters: LinkParameters, exchange: Exchange) -> float:
    if not parameters.baud:
        return exchange.turnaround_s
    request, reply = len(exchange.pdu), exchange.reply_length
    if exchange.receiver is None and reply:
        bits = modbus_times.parse_format(parameters.line_format).bits
        return modbus_times.exchange_time(request, reply, parameters.baud, bits, exchange.turnaround_s)
    # What frames itself is as long as it is; a request to all is answered by nobody.
    thinks_s = exchange.turnaround_s if reply else 0.0
    return (request + reply) * character_time(parameters, exchange.speed) + thinks_s + silence(parameters)
