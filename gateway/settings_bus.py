"""How meters are reached: the kinds of buses, and what DLMS needs to know of a meter. Not who hangs on them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from collector.fields import Obis
from gateway.fields import Id, Port, Strict, SystemTitle

Format = Literal["8N1", "8E1", "8O1", "8N2"]


class SerialBus(Strict):
    """An RS-485 line at a serial port, Modbus RTU."""

    kind: Literal["rtu"]
    id: Id
    port: str
    baud: int = Field(9600, ge=300, le=1_000_000)
    format: Format = "8E1"
    # A pseudo-terminal refuses parity: the port is opened with this, while the timing keeps `format`.
    open_as: Literal["8N1"] | None = None


class TcpBus(Strict):
    """Modbus TCP: one meter, or a TCP gateway with several units behind it."""

    kind: Literal["tcp"]
    id: Id
    host: str
    port: Port = 502


class RtuOverTcpBus(Strict):
    """Modbus RTU frames through a serial device server."""

    kind: Literal["rtu-over-tcp"]
    id: Id
    host: str
    port: Port
    baud: int = Field(9600, ge=300, le=1_000_000)
    format: Format = "8E1"


class HdlcBus(Strict):
    """DLMS in HDLC frames at a serial port: an RS-485 line, or an optical head.

    `start` mode-e: the meter is woken after IEC 62056-21 first (300 baud 7E1), and the speed that it offers is taken.
    """

    kind: Literal["hdlc"]
    id: Id
    port: str
    baud: int = Field(9600, ge=300, le=1_000_000)
    format: Format = "8N1"
    start: Literal["direct", "mode-e"] = "direct"
    open_as: Literal["8N1"] | None = None  # as of `SerialBus`

    @model_validator(mode="after")
    def _seven_bits(self) -> "HdlcBus":
        if self.start == "mode-e" and (self.open_as or self.format) != "8N1":
            raise ValueError("start: mode-e needs format = '8N1' (the 7E1 of its beginning is made within it)")
        return self


class HdlcTcpBus(Strict):
    """DLMS in HDLC frames through a serial device server or a modem."""

    kind: Literal["hdlc-tcp"]
    id: Id
    host: str
    port: Port


class WrapperBus(Strict):
    """DLMS in the wrapper of TCP: one meter, or a concentrator with several logical devices."""

    kind: Literal["wrapper"]
    id: Id
    host: str
    port: Port = 4059


class Dlt645Bus(Strict):
    """DL/T 645 at a serial port."""

    kind: Literal["dlt645"]
    id: Id
    port: str
    baud: int = Field(2400, ge=300, le=1_000_000)
    format: Format = "8E1"
    open_as: Literal["8N1"] | None = None  # as of `SerialBus`


class Dlt645TcpBus(Strict):
    """DL/T 645 through a serial device server."""

    kind: Literal["dlt645-tcp"]
    id: Id
    host: str
    port: Port


BusSettings = Annotated[
    SerialBus | TcpBus | RtuOverTcpBus | HdlcBus | HdlcTcpBus | WrapperBus | Dlt645Bus | Dlt645TcpBus,
    Field(discriminator="kind"),
]

SERIAL_BUSES = (SerialBus, HdlcBus, Dlt645Bus)  # at a serial port of this machine

Protocol = Literal["modbus", "dlms", "dlt645"]
PROTOCOLS: dict[str, Protocol] = {
    "rtu": "modbus",
    "tcp": "modbus",
    "rtu-over-tcp": "modbus",
    "hdlc": "dlms",
    "hdlc-tcp": "dlms",
    "wrapper": "dlms",
    "dlt645": "dlt645",
    "dlt645-tcp": "dlt645",
}


class DlmsSettings(Strict):
    """How a DLMS meter is asked where that differs from its profile's way. Its keys stand in the key store.

    `physical` and `address_bytes` are of HDLC alone. `read_counter`: its invocation counter (`counter_obis`) is read
    by the public client before each association.
    """

    client: int | None = Field(None, ge=1, le=127)
    server: int | None = Field(None, ge=1, le=0x3FFF)  # the logical device
    physical: int | None = Field(None, ge=1, le=0x3FFF)  # the lower address
    address_bytes: Literal[1, 2, 4] | None = None
    authentication: Literal["none", "low", "high-md5", "high-sha1", "high-gmac", "high-sha256"] | None = None
    security: Literal["none", "authenticated", "encrypted", "authenticated-encrypted"] | None = None
    ciphering: Literal["glo", "ded", "general-glo", "general-ded"] | None = None
    system_title: SystemTitle | None = None  # the meter's: another one is not talked to
    client_title: SystemTitle | None = None  # ours; else made from the gateway's id
    read_counter: bool = False
    counter_obis: Obis | None = None

    @model_validator(mode="after")
    def _fits(self) -> "DlmsSettings":
        if self.physical is not None and self.address_bytes == 1:
            raise ValueError("address_bytes: an address of one byte has no room for physical; say 2 or 4")
        limit = 0x7F if self.address_bytes in {1, 2} else 0x3FFF
        for name in ("server", "physical"):
            if (getattr(self, name) or 0) > limit:
                raise ValueError(f"{name}: {getattr(self, name)} does not fit; say address_bytes = 4")
        return self
