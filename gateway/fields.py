"""Words of the settings: ids, durations, sizes, times, addresses, checked by pydantic. Not what they are used for."""

import re
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from metering.obis import canonical_obis
from metering.timing import from_rfc3339, parse_duration

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REGION = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_DECIMAL = re.compile(r"\d+(\.\d+)?")
_TITLE = re.compile(r"[0-9A-Fa-f]{16}")
_BCD_ADDRESS = re.compile(r"[0-9]{12}")
_SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _check_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("use 1 to 64 letters, digits, _ and -")
    return text


def _check_region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ValueError("write a path such as js/nj/st12, without a slash at either end")
    return text


def _check_decimal(text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("write a decimal number in quotes, for example '40' or '12345.67'")
    return text


def _check_registers(registers: dict[str, str]) -> dict[str, str]:
    return {canonical_obis(obis): _check_decimal(value) for obis, value in registers.items()}


def _check_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("write an IANA time zone, for example 'Europe/Berlin'") from None
    return text


def _check_title(text: str) -> str:
    if not _TITLE.fullmatch(text):
        raise ValueError("write a system title as 16 hexadecimal digits, for example '4d4554000012ab34'")
    return text.lower()


def _check_bcd(text: str) -> str:
    if not _BCD_ADDRESS.fullmatch(text):
        raise ValueError("write the meter's address as 12 digits in quotes, as its plate shows it, zeros in front")
    return text


def _duration(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("write a duration with its unit, for example '15min', '1s', '40d'")  # noqa: TRY004 - pydantic turns ValueError into its report
    return parse_duration(value)


def _period(value: object) -> object:
    return None if value == "off" else _duration(value)


def _size(value: object) -> object:
    match = re.fullmatch(r"(\d+)\s*(KiB|MiB|GiB)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a size with its unit, for example '512 MiB'")
    return int(match[1]) * _SIZES[match[2]]


def _instant(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("write a time with its offset in quotes, for example '2026-01-01T00:00:00Z'")  # noqa: TRY004 - as above
    return from_rfc3339(value)


Id = Annotated[str, AfterValidator(_check_id)]
CustomerClass = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")]
Region = Annotated[str, AfterValidator(_check_region)]
Ratio = Annotated[str, AfterValidator(_check_decimal)]
RegisterReadings = Annotated[dict[str, str], AfterValidator(_check_registers)]
Duration = Annotated[float, BeforeValidator(_duration)]
Period = Annotated[float | None, BeforeValidator(_period)]  # "off": None
Size = Annotated[int, BeforeValidator(_size)]
Instant = Annotated[int, BeforeValidator(_instant)]
FilePath = Annotated[Path, BeforeValidator(lambda value: Path(value) if isinstance(value, str) else value)]
Zone = Annotated[str, AfterValidator(_check_zone)]
Port = Annotated[int, Field(ge=1, le=65535)]
SystemTitle = Annotated[str, AfterValidator(_check_title)]
BcdAddress = Annotated[str, AfterValidator(_check_bcd)]
Secret = Annotated[str, Field(pattern=r"^(env|file):.+$")]


class Strict(BaseModel):
    """A table of the file: unknown keys are errors, values keep their types, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def split_address(listen: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` (an IPv6 host in brackets).

    Raises:
        ValueError: not of that form.

    """
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{listen!r} is not HOST:PORT, for example 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _check_host_port(text: str) -> str:
    split_address(text)
    return text


HostPort = Annotated[str, AfterValidator(_check_host_port)]
