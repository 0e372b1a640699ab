"""How often something came that cannot be decoded, before it is put aside. It keeps counts alone."""

from collections import OrderedDict

STRIKES = 3  # deliveries of what cannot be decoded, before it goes to the quarantine
MAX_STRIKES = 10_000  # things that are being counted so; the oldest are forgotten


class Strikes:
    """Counts by gateway, epoch and number: a record's seq, or a message's checksum under no epoch."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, str, int], int] = OrderedDict()

    def out(self, key: tuple[str, str, int], deliveries: int) -> bool:
        """Count a delivery that could not be decoded; True when it was the last one."""
        count = max(self._counts.pop(key, 0) + 1, deliveries)
        if count >= STRIKES:
            return True
        self._counts[key] = count
        while len(self._counts) > MAX_STRIKES:
            self._counts.popitem(last=False)
        return False
