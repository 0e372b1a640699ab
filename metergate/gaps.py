"""How many boundaries of each meter were promised and are not held: one number for a summary line."""

from collections.abc import Sequence

from headend.completeness import Wanted, of_stored
from headend.spans import Span
from metering.model import Kind
from metering.ports import ReadingsStore


def count_gaps(store: ReadingsStore, devices: Sequence[str], now: int) -> int:
    """Return the missing boundaries of all devices' running totals; a boundary counts once however many totals miss."""
    return sum(_missing(store, device, now) for device in devices)


def _missing(store: ReadingsStore, device: str, now: int) -> int:
    obis = {code for promise in store.expectations(device) if promise.kind is Kind.REGISTER for code in promise.obis}
    span = [Span(device, None, 0, now)]
    return max((of_stored(store, span, Wanted((code,), (Kind.REGISTER,)), now).missing for code in obis), default=0)
