"""A simulated DLMS meter at a fixed instant, and our own client carried to it without a wire."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from collector.keys import MeterKeys
from collector.protocols.conversation import Conversation
from collector.protocols.dlms.association import Association as Wanted
from collector.protocols.dlms.session import Session
from simulators.dlms_association import Association
from simulators.dlms_meter import DlmsMeter, DlmsSettings
from simulators.dlms_security import test_keys as keys_of_tests
from simulators.meter import Meter, MeterSettings

NOW = 1_795_000_000_000_000  # 2026-11-18T11:06:40Z
TITLE = b"MGTGTW01"
T = TypeVar("T")


class Count:
    """An invocation counter that begins where it is told to."""

    def __init__(self, start: int = 1) -> None:
        self._numbers = itertools.count(start)

    def next(self) -> int:
        return next(self._numbers)

    def skip(self) -> bool:
        return False

    def raise_to(self, expected: int) -> None:
        self._numbers = itertools.count(expected)

    @property
    def known(self) -> bool:
        return True


@dataclass
class Clock:
    now: int = NOW

    def __call__(self) -> int:
        return self.now


@dataclass
class Bench:
    """A meter, the time it lives in, and what one does with it."""

    meter: DlmsMeter
    clock: Clock
    sent: list[bytes] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)

    def carry(self, association: Association, conversation: Conversation[T]) -> T:
        """Carry a conversation to its end; the meter's faults strike as on a wire."""
        request = next(conversation)
        while True:
            self.sent.append(request)
            reply = association.serve(request, self.clock.now, self.meter.faults.strike())
            self.heard.append(reply)
            try:
                request = conversation.send(reply)
            except StopIteration as done:
                value: T = done.value
                return value

    def talk(self, wanted: Wanted, *, keys: MeterKeys | None = None, start: int = 1) -> "Talk":
        """Open an association as our client does it."""
        session = Session(wanted, keys or keys_of_tests(), Count(start), limit=1 << 20)
        association = Association(self.meter, wanted.client)
        self.carry(association, session.associate())
        return Talk(self, session, association)


@dataclass
class Talk:
    bench: Bench
    session: Session
    association: Association

    def do(self, conversation: Conversation[T]) -> T:
        return self.bench.carry(self.association, conversation)


Make = Callable[..., Bench]


@pytest.fixture
def make() -> Make:
    def made(settings: DlmsSettings | None = None, *, now: int = NOW, **meter: object) -> Bench:
        clock = Clock(now)
        physical = Meter(MeterSettings(**{"seed": 3, **meter}))  # type: ignore[arg-type] # a test names what it wants
        return Bench(DlmsMeter(physical, settings or DlmsSettings(), now=clock), clock)

    return made


@pytest.fixture
def bench(make: Make) -> Bench:
    return make()


@pytest.fixture
def quiet(make: Make) -> Bench:
    """A meter without history: no power failure, no magnet."""
    return make(DlmsSettings(history=False))
