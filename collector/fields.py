"""Types of settings that several files share: ids, OBIS codes, units, durations. Checked by pydantic; not settings."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from metering.obis import canonical_obis
from metering.timing import parse_duration

_ELECTRIC = {"V", "A", "W", "kW", "var", "kvar", "VA", "kVA", "Wh", "kWh", "MWh", "varh", "kvarh", "VAh", "kVAh", "Hz"}
_OTHER = {"", "deg", "%", "°C", "m³", "l", "s", "min", "h", "dBm"}
UNITS = frozenset(_ELECTRIC | _OTHER)


def _unit(text: str) -> str:
    if text not in UNITS:
        near = [unit for unit in sorted(UNITS) if unit.lower() == text.lower()]
        hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(sorted(UNITS - {""}))
        raise ValueError(f"{text!r} is not a known unit; {hint}")
    return text


def _obis(text: str) -> str:
    full = canonical_obis(text)
    if full != text:
        raise ValueError(f"write the code in full: {full!r}")
    return text


def _seconds(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError("write a duration as text with its unit, for example '250ms', '1s' or '15min'")


Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Obis = Annotated[str, AfterValidator(_obis)]
Unit = Annotated[str, AfterValidator(_unit)]
Seconds = Annotated[float, BeforeValidator(_seconds)]  # written as `15min`, held as seconds
