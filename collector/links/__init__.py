"""The wires that a bus owns: Modbus TCP, RTU on a serial port or through a serial device server, and streams."""

from collector.links.link import Link, LinkParameters, LinkStatus
from collector.links.rtu import RtuLink, RtuOverTcpLink
from collector.links.stream import SerialStreamLink, TcpStreamLink
from collector.links.tcp import TcpLink

__all__ = [
    "Link",
    "LinkParameters",
    "LinkStatus",
    "RtuLink",
    "RtuOverTcpLink",
    "SerialStreamLink",
    "TcpLink",
    "TcpStreamLink",
]
