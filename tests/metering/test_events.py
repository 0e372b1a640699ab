import re

from metering import events
from metering.events import EventType

ALL = [value for value in vars(events).values() if isinstance(value, EventType)]


def test_every_event_has_a_name_of_its_own_and_a_code_of_four_numbers() -> None:
    assert len({event.name for event in ALL}) == len(ALL)
    assert all(re.fullmatch(r"(3|10)\.\d+\.\d+\.\d+", event.code) for event in ALL)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", event.name) for event in ALL)
