"""What every kind of rule is made of: its fields, what it finds, and the meter point's own time. It judges nothing."""

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from headend.policy.facts import Question

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Found(NamedTuple):
    """What a rule found: the sentence goes without the rule's name."""

    passed: bool
    says: str
    inputs: dict[str, str]


class Rule(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True, kw_only=True):
    """What every rule has: its id, the source of its figures, and how sure that is (V read in it, S second hand, U).

    `reasons` are those that it is for; none named: all.
    """

    id: str
    source: str
    mark: str = "V"
    reasons: tuple[str, ...] = ("debt",)


def local(question: Question, instant: int) -> datetime:
    """Return an instant (microseconds) as the meter point's local time."""
    return (_EPOCH + timedelta(microseconds=instant)).astimezone(ZoneInfo(question.zone))


def day(question: Question, instant: int) -> date:
    """Return the local date of an instant (microseconds)."""
    return local(question, instant).date()
