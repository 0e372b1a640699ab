"""The units and kinds of COSEM values in the house's words: enumerations to text, decimal exponents kept. No wire."""

from typing import NamedTuple

from metering.model import Kind
from metering.obis import parse_obis


class Measure(NamedTuple):
    """A unit of ours, and the exponent that turns the meter's unit into it (Wh into kWh: -3)."""

    unit: str
    shift: int = 0


# Blue Book 4.3.2, enumeration of physical units; only those that the house has a word for.
MEASURES = {
    5: Measure("h"),
    6: Measure("min"),
    7: Measure("s"),
    8: Measure("deg"),
    9: Measure("°C"),
    13: Measure("m³"),
    14: Measure("m³"),
    19: Measure("l"),
    27: Measure("W"),
    28: Measure("VA"),
    29: Measure("var"),
    30: Measure("kWh", -3),
    31: Measure("kVAh", -3),
    32: Measure("kvarh", -3),
    33: Measure("A"),
    35: Measure("V"),
    44: Measure("Hz"),
    56: Measure("%"),
    70: Measure("dBm"),
    255: Measure(""),
}
NO_UNIT = 255

# The same quantity in another size: unit -> (quantity, exponent towards its base).
_SIZES = {
    "W": ("W", 0),
    "kW": ("W", 3),
    "var": ("var", 0),
    "kvar": ("var", 3),
    "VA": ("VA", 0),
    "kVA": ("VA", 3),
    "Wh": ("Wh", 0),
    "kWh": ("Wh", 3),
    "MWh": ("Wh", 6),
    "varh": ("varh", 0),
    "kvarh": ("varh", 3),
    "VAh": ("VAh", 0),
    "kVAh": ("VAh", 3),
}

# Value group D (IEC 62056-6-1 table 13): averages, maxima, instantaneous values, time integrals. Time integral 1 runs
# from the first start of the meter, 5 and 6 over one recording interval of load profile 1 and 2.
_KINDS = {
    4: Kind.AVERAGE,
    5: Kind.AVERAGE,
    6: Kind.MAXIMUM_DEMAND,
    7: Kind.INSTANTANEOUS,
    8: Kind.REGISTER,
    14: Kind.AVERAGE,
    15: Kind.AVERAGE,
    16: Kind.MAXIMUM_DEMAND,
    24: Kind.AVERAGE,
    25: Kind.AVERAGE,
    26: Kind.MAXIMUM_DEMAND,
    27: Kind.AVERAGE,
    28: Kind.AVERAGE,
    29: Kind.INTERVAL,
    30: Kind.INTERVAL,
}


def kind_of(obis: str) -> Kind | None:
    """Return what a code's value group D says its values are; None where it says nothing of the house's words.

    Codes that are not of electricity (A = 1) have their own meanings of D.
    """
    groups = parse_obis(obis)
    return _KINDS.get(groups[3]) if groups[0] == 1 else None


def measure(code: int, expected: str | None = None) -> Measure:
    """Return unit and exponent for a meter's unit `code`, in the `expected` unit where one is said.

    Raises:
        ValueError: in words: the house has no word for the unit, or it is another quantity than was expected.

    """
    found = MEASURES.get(code)
    if found is None:
        raise ValueError(f"unit {code} of the standard's list has no place here")
    if expected is None or expected == found.unit:
        return found
    size, wanted = _SIZES.get(found.unit), _SIZES.get(expected)
    if size is None or wanted is None or size[0] != wanted[0]:
        raise ValueError(f"the meter says {found.unit or 'no unit'}, the profile {expected or 'none'}")
    return Measure(expected, found.shift + size[1] - wanted[1])
