"""The wires that a bus owns: Modbus TCP, RTU on a serial port, RTU through a serial device server."""

from collector.links.link import Link, LinkParameters, LinkStatus
from collector.links.rtu import RtuLink, RtuOverTcpLink
from collector.links.tcp import TcpLink

__all__ = ["Link", "LinkParameters", "LinkStatus", "RtuLink", "RtuOverTcpLink", "TcpLink"]
