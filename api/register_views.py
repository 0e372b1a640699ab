"""Entries of registers and collections' facts as they are answered. Instants become RFC 3339 text."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from headend.policy.facts import CollectionFacts
from headend.policy.registers import Kept
from metering.timing import to_rfc3339


class EntryView(msgspec.Struct):
    """An entry of a register, in force from `since` until before `until` (null: until further notice).

    A hold of a whole region has that one and an empty `point`. `state`: to-come, in-force, end-asked (in force, until
    another person confirms its end) or ended. `added_by`, `end_asked_by` and `ended_by` read `token:<id>`; an entry
    that ended by itself has an empty `ended_by`.
    """

    kind: str
    point: str
    region: str | None
    id: str
    name: str
    state: Literal["to-come", "in-force", "end-asked", "ended"]
    since: str
    until: str | None
    reason: str
    source: str
    detail: dict[str, str]
    added_at: str
    added_by: str
    end_asked_at: str | None
    end_asked_by: str
    end_reason: str
    ended_by: str


class EntriesPage(msgspec.Struct):
    """A page of entries. `next` is the cursor of the next one, null on the last; what is out of sight is left out."""

    entries: list[EntryView]
    next: str | None


class EntriesOfPoint(msgspec.Struct):
    """All entries of a meter point in a register, ended ones too, the oldest first."""

    entries: list[EntryView]


class NoticeView(msgspec.Struct):
    """A notice to the customer, and when it arrived."""

    id: str
    kind: str
    delivered_at: str | None
    channel: str


class ContactView(msgspec.Struct):
    """An attempt to reach the customer."""

    at: str
    channel: str
    outcome: str


class FactsView(msgspec.Struct):
    """What collections pushed last of a meter point, as of `at`."""

    at: str
    owed: str
    currency: str
    overdue_since: str | None
    notices: list[NoticeView]
    contacts: list[ContactView]
    disputed: bool
    complaint: bool
    payment_plan: str
    accounts: int


REGISTER_ANSWERS = (EntryView, EntriesPage, EntriesOfPoint, FactsView)


def entry_view(kept: Kept, now: int) -> EntryView:
    """Return an entry as it is answered at an instant."""
    entry = kept.entry
    return EntryView(
        entry.kind,
        entry.point,
        entry.region or None,
        entry.id,
        entry.name,
        _state(kept, now),
        to_rfc3339(entry.since),
        _text(entry.until),
        entry.reason,
        entry.source,
        entry.detail,
        to_rfc3339(kept.added_at),
        entry.by,
        _text(kept.end_asked_at),
        kept.end_asked_by,
        kept.end_reason,
        kept.ended_by,
    )


def page_view(found: Sequence[Kept], after: str, now: int) -> EntriesPage:
    """Return a page of entries as it is answered at an instant."""
    return EntriesPage([entry_view(each, now) for each in found], after or None)


def facts_view(facts: CollectionFacts) -> FactsView:
    """Return facts as they are answered."""
    return FactsView(
        to_rfc3339(facts.at),
        facts.owed,
        facts.currency,
        _text(facts.overdue_since),
        [NoticeView(each.id, each.kind, _text(each.delivered_at), each.channel) for each in facts.notices],
        [ContactView(to_rfc3339(each.at), each.channel, each.outcome) for each in facts.contacts],
        facts.disputed,
        facts.complaint,
        facts.payment_plan,
        facts.accounts,
    )


def _state(kept: Kept, now: int) -> Literal["to-come", "in-force", "end-asked", "ended"]:
    if kept.entry.until is not None and kept.entry.until <= now:
        return "ended"
    if kept.is_asked(now):
        return "end-asked"
    return "in-force" if kept.entry.since <= now else "to-come"


def _text(instant: int | None) -> str | None:
    return to_rfc3339(instant) if instant is not None else None
