"""How long Modbus frames take on a serial line (Modbus over Serial Line V1.02, 2.5.1), in seconds. Reads no clock."""

from typing import NamedTuple

from collector.protocols.modbus_adu import RTU_OVERHEAD

FAST_BAUD = 19200
FAST_SILENCE_S = 0.00175  # fixed above 19,200 baud (2.5.1.1): 3.5 characters would load the receiver
SILENT_CHARACTERS = 3.5


class LineFormat(NamedTuple):
    """Data bits, parity (N, E, O) and stop bits of a serial line."""

    data_bits: int
    parity: str
    stop_bits: int

    @property
    def bits(self) -> int:
        """Return the bits of one character on the line, start bit included: 11 for 8E1, 10 for 8N1."""
        return 1 + self.data_bits + (self.parity != "N") + self.stop_bits


def parse_format(text: str) -> LineFormat:
    """Return the line format of text such as `8N1` or `8E1`; RTU needs eight data bits.

    Raises:
        ValueError: not `8`, one of N E O, and 1 or 2.

    """
    if len(text) == 3 and text[0] == "8" and text[1] in "NEO" and text[2] in "12":
        return LineFormat(8, text[1], int(text[2]))
    raise ValueError(f"{text!r} is not a line format; write 8N1, 8E1, 8O1 or 8N2")


def character_time(baud: int, bits_per_character: int = 11) -> float:
    """Return the seconds that one character occupies the line."""
    return bits_per_character / baud


def silent_interval(baud: int, bits_per_character: int = 11) -> float:
    """Return the silence that separates frames: 3.5 characters, 1.750 ms above 19,200 baud."""
    if baud > FAST_BAUD:
        return FAST_SILENCE_S
    return SILENT_CHARACTERS * character_time(baud, bits_per_character)


def wire_time(request_length: int, reply_length: int, baud: int, bits_per_character: int = 11) -> float:
    """Return the seconds that a request and its reply (PDU lengths in bytes) occupy the line, without any silence."""
    return (request_length + reply_length + 2 * RTU_OVERHEAD) * character_time(baud, bits_per_character)


def exchange_time(
    request_length: int, reply_length: int, baud: int, bits_per_character: int = 11, turnaround_s: float = 0.0
) -> float:
    """Return the least seconds from one request's first bit to the next request's first bit.

    Characters of both frames, the meter's turnaround (never under one silent interval, by which it knows that the
    request has ended) and the silent interval before the next request.
    """
    silence = silent_interval(baud, bits_per_character)
    characters = wire_time(request_length, reply_length, baud, bits_per_character)
    return characters + max(turnaround_s, silence) + silence
