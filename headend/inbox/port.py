"""The inbox as the head-end sees it, whatever carries it: deliveries to be committed, and words to gateways."""

from collections.abc import Sequence
from typing import Protocol


class Delivery(Protocol):
    """One message of a gateway. `leaf` is its topic's last part (`up`, `status`), `deliveries` how often it came."""

    gateway: str
    leaf: str
    payload: bytes
    deliveries: int

    async def ack(self) -> None:
        """Say that it is committed, or refused for good: it never comes again."""
        ...

    async def nak(self, delay_s: float) -> None:
        """Say that it is not committed: it is to come again, not before so many seconds."""
        ...


class Inbox(Protocol):
    """Deliveries of all gateways. What is neither acknowledged nor refused comes again."""

    async def fetch(self, most: int) -> Sequence[Delivery]:
        """Wait for a delivery; return it and what else is there, at most `most`."""
        ...

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Send a message to a gateway. Raises `LinkDownError`."""
        ...
