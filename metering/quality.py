"""Quality of one reading: flags that are stored, with the codes that IEC 61968-9 and Green Button give them.

IEC 61968-9 writes a reading's quality as `system.category.index` (system 1 = end device, 2 = metering system
network, that is the collection, 3 = meter data management). Green Button (NAESB REQ.21 ESPI) has one number.
"""

from enum import IntFlag
from typing import NamedTuple


class Quality(IntFlag):
    """What is to be said about one value. `VALID` (no flag) means: read, well formed, in time, nothing to remark."""

    VALID = 0
    NOT_AVAILABLE = 1  # the meter's own sentinel for "not available"; there is no value
    NOT_A_NUMBER = 2  # NaN or an infinity where a number belongs; there is no value
    OUT_OF_RANGE = 4  # outside what the profile says the register can show
    BACKWARDS = 8  # a running total below the last one, and no rollover explains it
    ROLLOVER = 16  # the running total passed its highest value and began again
    CLOCK_SUSPECT = 32  # the clock that stamped it had just stepped, or is not trusted
    OFF_BOUNDARY = 64  # taken further from its slot than the limit
    DERIVED = 128  # computed from other readings, not shown by the meter
    ESTIMATED = 256
    EDITED = 512  # changed by a person
    VALIDATED = 1024  # passed validation
    POWER_FAIL = 2048  # the meter was without power inside the interval
    CLOCK_ADJUSTED = 4096  # the meter's clock was corrected inside the interval
    INCOMPLETE = 8192  # a part of the interval is missing (a meter swap without register readings, for example)
    RESTARTED = 16384  # a running total began again from near zero: a swap or a reset, not consumption
    DIFFERS = 32768  # the meter's own profile and the poll of the same boundary do not agree


class QualityCode(NamedTuple):
    """One flag in the words of the office: short name, IEC 61968-9 code, Green Button number."""

    name: str
    iec: str
    espi: int


VALID_CODE = QualityCode("valid", "1.0.0", 0)

# Indexes are given where two public sources agree on them (1.2.32, 1.4.2, 2.4.1, 2.5.259, 3.0.0, 3.7.0); elsewhere the
# category alone is said, with index 0.
CODES: dict[Quality, QualityCode] = {
    Quality.NOT_AVAILABLE: QualityCode("not-available", "2.5.259", 10),
    Quality.NOT_A_NUMBER: QualityCode("not-a-number", "2.5.0", 10),
    Quality.OUT_OF_RANGE: QualityCode("out-of-range", "2.5.0", 10),
    Quality.BACKWARDS: QualityCode("backwards", "2.5.0", 10),
    Quality.ROLLOVER: QualityCode("rollover", "2.4.1", 14),
    Quality.CLOCK_SUSPECT: QualityCode("clock-suspect", "2.4.0", 10),
    Quality.OFF_BOUNDARY: QualityCode("off-boundary", "2.4.0", 10),
    Quality.DERIVED: QualityCode("derived", "2.11.0", 11),
    Quality.ESTIMATED: QualityCode("estimated", "3.8.0", 9),
    Quality.EDITED: QualityCode("edited", "3.7.0", 7),
    Quality.VALIDATED: QualityCode("validated", "3.0.0", 17),
    Quality.POWER_FAIL: QualityCode("power-fail", "1.2.32", 14),
    Quality.CLOCK_ADJUSTED: QualityCode("clock-adjusted", "1.4.2", 14),
    Quality.INCOMPLETE: QualityCode("incomplete", "2.4.2", 10),
    Quality.RESTARTED: QualityCode("restarted", "2.5.0", 10),
    Quality.DIFFERS: QualityCode("differs", "2.5.0", 10),
}

# What stands under one of these is kept and shown, and is never billed as valid.
NOT_BILLABLE = (
    Quality.NOT_AVAILABLE
    | Quality.NOT_A_NUMBER
    | Quality.OUT_OF_RANGE
    | Quality.BACKWARDS
    | Quality.CLOCK_SUSPECT
    | Quality.OFF_BOUNDARY
    | Quality.DERIVED
    | Quality.ESTIMATED
    | Quality.INCOMPLETE
    | Quality.RESTARTED
    | Quality.DIFFERS
)

_WORTHLESS = Quality.NOT_AVAILABLE | Quality.NOT_A_NUMBER | Quality.OUT_OF_RANGE | Quality.BACKWARDS


def is_valid(quality: int) -> bool:
    """Tell whether a value of this quality may be billed as it stands."""
    return not quality & NOT_BILLABLE


def codes(quality: int) -> list[QualityCode]:
    """Return the office's codes for the flags of one value; a value without a flag is `valid`."""
    found = [code for flag, code in CODES.items() if quality & flag]
    return found or [VALID_CODE]


def rank(quality: int) -> int:
    """Return the precedence among versions of one channel and time: the highest is the current one.

    The order is edited, validated, as read, suspect, estimate, worthless; it does not depend on arrival.
    """
    if quality & Quality.EDITED:
        return 5
    if quality & _WORTHLESS:
        return 0
    if quality & Quality.ESTIMATED:
        return 1
    if quality & NOT_BILLABLE:
        return 2
    return 4 if quality & Quality.VALIDATED else 3
