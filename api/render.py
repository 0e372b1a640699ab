"""Rows as JSON, CSV (RFC 4180) and NDJSON bytes, and which of them was asked for. No HTTP answers are made here."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from headend.completeness import Completeness
from headend.rows import Row

Format = Literal["application/json", "text/csv", "application/x-ndjson"]
FORMATS: tuple[Format, ...] = ("application/json", "text/csv", "application/x-ndjson")

COLUMNS = (
    "point",
    "device",
    "serial",
    "obis",
    "kind",
    "source",
    "interval_s",
    "unit",
    "value",
    "primary_value",
    "measured_at",
    "slot",
    "interval_start",
    "interval_end",
    "received_at",
    "valid",
    "quality",
    "revision",
    "current",
)

_encoder = msgspec.json.Encoder()


class ReadingsPage(msgspec.Struct):
    """A JSON page of readings."""

    readings: Sequence[Row]
    completeness: Completeness
    next: str | None


def encode(value: object) -> bytes:
    """Return compact JSON."""
    return _encoder.encode(value)


def ndjson(rows: Sequence[Row]) -> bytes:
    """Return one JSON object a line."""
    return _encoder.encode_lines(rows)


def csv_header() -> bytes:
    """Return the line of column names."""
    return (",".join(COLUMNS) + "\r\n").encode()


def csv_lines(rows: Sequence[Row]) -> bytes:
    """Return a line for each row; what does not apply is empty, `quality` holds the codes' names, space between."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in rows:
        writer.writerow(
            (
                row.point,
                row.device,
                row.serial,
                row.obis,
                row.kind,
                row.source,
                row.interval_s,
                row.unit,
                row.value,
                row.primary_value,
                _time(row.measured_at),
                _time(row.slot),
                _time(row.interval_start),
                _time(row.interval_end),
                _time(row.received_at),
                str(row.quality.valid).lower(),
                " ".join(code.name for code in row.quality.codes),
                row.revision,
                str(row.current).lower(),
            )
        )
    return text.getvalue().encode()


def _time(moment: datetime | None) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z" if moment is not None else ""


def completeness_field(found: Completeness) -> str:
    """Return the counts as a structured field (RFC 8941 dictionary) for answers that have no place for them inside."""
    return (
        f"expected={found.expected}, held={found.held}, missing={found.missing}, recovered={found.recovered}, "
        f"no-supply={found.no_supply}, lost={found.lost}"
    )


def choose(accept: str, formats: Sequence[Format] = FORMATS) -> Format | None:
    """Return the format that an Accept field (RFC 9110) likes best, or None where it likes none of these."""
    best: tuple[float, int, Format] | None = None
    for index, each in enumerate(formats):
        weight = _weight(accept or "*/*", each)
        if weight > 0 and (best is None or weight > best[0]):
            best = weight, index, each
    return best[2] if best is not None else None


def _weight(accept: str, media_type: str) -> float:
    """Return the q of the most exact range that matches, 0 where none does."""
    found = (-1, 0.0)
    for part in accept.split(","):
        name, *parameters = (item.strip().lower() for item in part.split(";"))
        ranges = ("*/*", media_type.split("/", maxsplit=1)[0] + "/*", media_type)
        if name in ranges:
            found = max(found, (ranges.index(name), _q(parameters)))
    return found[1]


def _q(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
