"""The envelopes around Modbus PDUs: RTU (Modbus over Serial Line V1.02) and TCP (Messaging on TCP/IP V1.0b). No I/O."""

import struct
from typing import NamedTuple

from collector.protocols.modbus import EXCEPTION_BIT, MAX_PDU, check_reply, reply_length
from metering.errors import FrameError

RTU_OVERHEAD = 3  # address byte and CRC around the PDU
RTU_SHORTEST = 4  # address, function, CRC
MBAP_LENGTH = 7  # transaction, protocol, length, unit
_MBAP = struct.Struct(">HHHB")


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc16(data: bytes) -> int:
    """Return the CRC of an RTU frame (Serial Line V1.02 section 6.2.2); it is sent low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


# --- RTU ------------------------------------------------------------------------------------------------------------


def rtu_frame(unit: int, pdu: bytes) -> bytes:
    """Return address, PDU and CRC: a request or a reply as it goes on a serial line."""
    body = bytes((unit,)) + pdu
    return body + crc16(body).to_bytes(2, "little")


def open_rtu(frame: bytes) -> tuple[int, bytes]:
    """Return unit and PDU of an RTU frame.

    Raises:
        FrameError: too short or too long for a frame, or the CRC does not fit.

    """
    if not RTU_SHORTEST <= len(frame) <= MAX_PDU + RTU_OVERHEAD:
        raise FrameError(f"{len(frame)} bytes are no RTU frame")
    wanted = crc16(frame[:-2])
    if frame[-2:] != wanted.to_bytes(2, "little"):
        raise FrameError(f"CRC is {frame[-2:].hex()}, should be {wanted.to_bytes(2, 'little').hex()}")
    return frame[0], frame[1:-2]


def parse_rtu_reply(frame: bytes, unit: int, request: bytes) -> bytes:
    """Return the PDU of the RTU frame that answers this request PDU to this unit.

    Raises:
        RefusedError: the meter answered with an exception.
        FrameError: bad CRC, another unit, function, byte count or length.

    """
    answered, pdu = open_rtu(frame)
    if answered != unit:
        raise FrameError(f"unit {answered} answered, asked was {unit}")
    check_reply(request, pdu)
    return pdu


def rtu_reply_length(head: bytes, request: bytes) -> int:
    """Return how many bytes the whole RTU reply has, told from its first two bytes: an exception is shorter."""
    if head[1] & EXCEPTION_BIT:
        return 2 + RTU_OVERHEAD
    return reply_length(request) + RTU_OVERHEAD


# --- TCP ------------------------------------------------------------------------------------------------------------


class Mbap(NamedTuple):
    """The header before a PDU on TCP. `length` counts the unit byte and the PDU."""

    transaction: int
    protocol: int
    length: int
    unit: int


def tcp_frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    """Return MBAP header and PDU: a request or a reply as it goes over TCP."""
    return _MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu


def parse_mbap(header: bytes) -> Mbap:
    """Return the header's fields from the first seven bytes of a frame.

    Raises:
        FrameError: fewer than seven bytes, not the Modbus protocol (0), or an impossible length: the stream is lost.

    """
    if len(header) < MBAP_LENGTH:
        raise FrameError(f"{len(header)} bytes are no MBAP header")
    mbap = Mbap(*_MBAP.unpack_from(header))
    if mbap.protocol != 0:
        raise FrameError(f"MBAP protocol is {mbap.protocol}, Modbus is 0")
    if not 2 <= mbap.length <= MAX_PDU + 1:
        raise FrameError(f"MBAP length {mbap.length} is not 2 to {MAX_PDU + 1}")
    return mbap


def open_tcp(frame: bytes) -> tuple[Mbap, bytes]:
    """Return header and PDU of a whole TCP frame.

    Raises:
        FrameError: the header is wrong, or its length is not the frame's.

    """
    mbap = parse_mbap(frame)
    if len(frame) != MBAP_LENGTH - 1 + mbap.length:
        raise FrameError(f"frame of {len(frame)} bytes, its header says {MBAP_LENGTH - 1 + mbap.length}")
    return mbap, frame[MBAP_LENGTH:]


def parse_tcp_reply(frame: bytes, transaction: int, unit: int, request: bytes) -> bytes:
    """Return the PDU of the TCP frame that answers this request PDU of this transaction and unit.

    Raises:
        RefusedError: the meter answered with an exception.
        FrameError: another transaction, unit, function, byte count or length.

    """
    mbap, pdu = open_tcp(frame)
    if mbap.transaction != transaction:
        raise FrameError(f"reply is of transaction {mbap.transaction}, asked was {transaction}")
    if mbap.unit != unit:
        raise FrameError(f"unit {mbap.unit} answered, asked was {unit}")
    check_reply(request, pdu)
    return pdu
