"""How many boundaries of each meter were to be read and are not held: one number for a summary line.

Rows of the meters' own profiles are not counted: they reach back for months, and are caught up behind all other work.
"""

from collections.abc import Sequence

from headend.completeness import Wanted, of_stored
from headend.spans import Span
from metering.model import Kind, Source
from metering.ports import ReadingsStore

READ = (Source.POLL, Source.PUSH)


def count_gaps(store: ReadingsStore, devices: Sequence[str], now: int) -> int:
    """Return the missing boundaries of all devices' running totals; a boundary counts once however many totals miss."""
    return sum(_missing(store, device, now) for device in devices)


def _missing(store: ReadingsStore, device: str, now: int) -> int:
    promises = [each for each in store.expectations(device) if each.kind is Kind.REGISTER and each.source in READ]
    obis = {code for promise in promises for code in promise.obis}
    span = [Span(device, None, 0, now)]
    return max(
        (of_stored(store, span, Wanted((code,), (Kind.REGISTER,), READ), now).missing for code in obis), default=0
    )
