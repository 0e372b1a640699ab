"""A conversation with a meter without its wire: it yields what to send and is sent what came back. No I/O, no time."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

# Yields the bytes of a request, is sent the bytes of its reply, and returns what the conversation was about. Whoever
# carries it throws into it what went wrong on the wire, so that it can leave its state as it should be.
Conversation = Generator[bytes, bytes, T]
