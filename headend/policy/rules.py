"""The kinds of rules: pure functions from a question to what was found. Every figure in them is a rule set's.

A rule is of a kind and has that kind's parameters as fields; `judge` returns passed, a sentence, and the inputs.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from headend.policy.calendar import Calendar, is_working_day, working_days_between
from headend.policy.facts import CollectionFacts, Notice, Question
from metering.model import SECOND

DAY = 86_400 * SECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_FACTS = "collections has said nothing"


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


class FactsAge(Rule, tag="facts-age", frozen=True, kw_only=True):
    """What collections said is not older than so many hours: too old counts as no."""

    hours: float

    def judge(self, question: Question) -> Found:
        """Compare the age."""
        if question.facts is None:
            return Found(False, f"facts at most {self.hours:g} h old: {NO_FACTS}", {})  # noqa: FBT003 - Found's own
        age = (question.now - question.facts.at) / SECOND / 3600
        says = f"facts at most {self.hours:g} h old: {age:.1f} h"
        return Found(0 <= age <= self.hours, says, {"facts_at": str(question.facts.at)})


class OverdueDays(Rule, tag="overdue-days", frozen=True, kw_only=True):
    """The debt is overdue by more than so many days, counted from its day or from a notice of a kind."""

    days: int
    since_notice: str = ""

    def judge(self, question: Question) -> Found:
        """Count the days."""
        begin = _overdue_since(question.facts, self.since_notice)
        name = f"overdue more than {self.days} days" + (f" after {self.since_notice}" if self.since_notice else "")
        if begin is None:
            return Found(False, f"{name}: not known since when", {})  # noqa: FBT003 - Found's own
        days = (question.now - begin) // DAY
        return Found(days > self.days, f"{name}: {days} days", {"since": str(begin), "days": str(days)})


class OwedAtLeast(Rule, tag="owed-at-least", frozen=True, kw_only=True):
    """At least so much is owed; `combined` where several accounts are."""

    amount: str
    currency: str
    combined: str = ""

    def judge(self, question: Question) -> Found:
        """Compare the amounts."""
        facts = question.facts
        floor = self.combined if self.combined and facts is not None and facts.accounts > 1 else self.amount
        name = f"owed at least {floor} {self.currency}"
        if facts is None or facts.currency != self.currency:
            return Found(False, f"{name}: {NO_FACTS if facts is None else f'told in {facts.currency!r}'}", {})  # noqa: FBT003 - Found's own
        try:
            enough = Decimal(facts.owed) >= Decimal(floor)
        except InvalidOperation:
            enough = False
        return Found(enough, f"{name}: {facts.owed} {facts.currency}", {"owed": facts.owed})


class NoticeBefore(Rule, tag="notice", frozen=True, kw_only=True):
    """A notice of a kind was delivered at least so many days before; the newest one counts."""

    notice: str
    days: int
    working: bool = False
    calendar: str = ""  # of working days, as `holidays` names it: CN, GB-ENG, AU-NSW, US-NY

    def judge(self, question: Question) -> Found:
        """Count from the delivery."""
        unit = "working days" if self.working else "days"
        name = f"{self.notice} {self.days} {unit} before"
        found = _newest(question.facts, self.notice)
        if found is None or found.delivered_at is None:
            return Found(False, f"{name}: none delivered", {})  # noqa: FBT003 - Found's own
        since, now = _local(question, found.delivered_at), _local(question, question.now)
        if self.working:
            days = working_days_between(since.date(), now.date(), Calendar.of(self.calendar))
        else:
            days = (question.now - found.delivered_at) // DAY
        inputs = {"notice": found.id, "delivered_at": str(found.delivered_at), "channel": found.channel}
        return Found(days >= self.days, f"{name}: delivered {days} {unit} ago", inputs)


class LastNotice(Rule, tag="last-notice", frozen=True, kw_only=True):
    """A last notice of a kind was delivered between so many minutes and so many hours before."""

    notice: str
    minutes: int
    hours: float = 24

    def judge(self, question: Question) -> Found:
        """Count the minutes."""
        name = f"{self.notice} {self.minutes} minutes before"
        found = _newest(question.facts, self.notice)
        if found is None or found.delivered_at is None:
            return Found(False, f"{name}: none delivered", {})  # noqa: FBT003 - Found's own
        minutes = (question.now - found.delivered_at) // (60 * SECOND)
        good = self.minutes <= minutes <= self.hours * 60
        return Found(good, f"{name}: delivered {minutes} minutes ago", {"notice": found.id})


class NoDispute(Rule, tag="no-dispute", frozen=True, kw_only=True):
    """Neither dispute nor complaint is open, by collections' word and by the register."""

    def judge(self, question: Question) -> Found:
        """Look at both."""
        facts, entries = question.facts, question.of("dispute")
        named = [f"{each.name} {each.id}" for each in entries]
        named += ["a dispute"] if facts is not None and facts.disputed else []
        named += ["a complaint"] if facts is not None and facts.complaint else []
        return Found(
            not named, f"no dispute or complaint: {', '.join(named) or 'none is'} open", {"open": str(len(named))}
        )


class NoKeptPlan(Rule, tag="no-kept-plan", frozen=True, kw_only=True):
    """No payment plan is kept, by collections' word and by the register."""

    def judge(self, question: Question) -> Found:
        """Look at both."""
        kept = [each.id for each in question.of("payment-plan")]
        told = question.facts is not None and question.facts.payment_plan == "kept"
        says = f"plan {', '.join(kept) or 'of collections'} is kept" if kept or told else "none is kept"
        return Found(not kept and not told, f"no payment plan: {says}", {"plans": ",".join(kept)})


class NotProtected(Rule, tag="not-protected", frozen=True, kw_only=True):
    """The meter point stands in no register of protected customers under these names (none named: any)."""

    names: tuple[str, ...] = ()

    def judge(self, question: Question) -> Found:
        """Look into the register. No number of approvals changes what is found."""
        found = [each for each in question.of("protected") if not self.names or each.name in self.names]
        says = ", ".join(f"{each.name} since {_day(question, each.since)}" for each in found) or "not in the register"
        return Found(not found, f"not protected: {says}", {"entries": ",".join(each.id for each in found)})


class NoHold(Rule, tag="no-hold", frozen=True, kw_only=True):
    """No hold stands for the meter point."""

    def judge(self, question: Question) -> Found:
        """Look into the register."""
        found = question.of("hold")
        held = [each for each in found if each.name != "forecast"]
        says = ", ".join(f"{each.name} ({each.reason})" for each in held) or "none"
        return Found(not held, f"no hold: {says}", {"entries": ",".join(each.id for each in held)})


class Forecast(Rule, tag="forecast", frozen=True, kw_only=True):
    """The forecast (a hold named so, with low_c and high_c) is fresh and stays between two temperatures."""

    below_c: float | None = None  # not when it is to fall to this
    above_c: float | None = None  # or to rise to this
    hours: float = 24  # how old it may be

    def judge(self, question: Question) -> Found:
        """Look at the newest forecast; an old one, and none, count as no."""
        name = "weather allows it"
        found = [each for each in question.of("hold") if each.name == "forecast"]
        newest = max(found, key=lambda each: each.since, default=None)
        if newest is None or question.now - newest.since > self.hours * 3600 * SECOND:
            return Found(False, f"{name}: there is no forecast of the last {self.hours:g} hours", {})  # noqa: FBT003 - Found's own
        try:
            low, high = float(newest.detail["low_c"]), float(newest.detail["high_c"])
        except (KeyError, ValueError):
            return Found(False, f"{name}: the forecast {newest.id} cannot be read", {"entry": newest.id})  # noqa: FBT003 - Found's own
        cold = self.below_c is not None and low <= self.below_c
        hot = self.above_c is not None and high >= self.above_c
        return Found(not cold and not hot, f"{name}: {low:g} to {high:g} degrees C", {"entry": newest.id})


class Hours(Rule, tag="hours", frozen=True, kw_only=True):
    """The local time lies between two hours, on these weekdays (0 is Monday)."""

    first: str  # HH:MM
    last: str
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)

    def judge(self, question: Question) -> Found:
        """Look at the clock of the meter point."""
        moment = _local(question, question.now)
        good = moment.weekday() in self.weekdays and self.first <= moment.strftime("%H:%M") < self.last
        days = ",".join(_DAYS[each] for each in self.weekdays)
        shown = f"{_DAYS[moment.weekday()]} {moment:%H:%M}"
        return Found(good, f"between {self.first} and {self.last} on {days}: it is {shown} there", {"local": shown})


class NotHoliday(Rule, tag="not-holiday", frozen=True, kw_only=True):
    """It is no public holiday, and where asked not the day before one."""

    calendar: str
    day_before: bool = False

    def judge(self, question: Question) -> Found:
        """Look at the calendar."""
        today = _local(question, question.now).date()
        calendar = Calendar.of(self.calendar)
        names = {"": calendar.name_of(today)}
        if self.day_before:
            names["the day before "] = calendar.name_of(today + timedelta(days=1))
        says = ", ".join(f"{when}{name}" for when, name in names.items() if name) or "none"
        return Found(not any(names.values()), f"no public holiday: {says}", {"date": str(today)})


class NotBetween(Rule, tag="not-between", frozen=True, kw_only=True):
    """The date lies in no closed season: `first` to `last` as MM-DD, both inclusive, over the year's end where so."""

    first: str
    last: str

    def judge(self, question: Question) -> Found:
        """Look at the date."""
        today = _local(question, question.now).strftime("%m-%d")
        inside = (
            self.first <= today <= self.last if self.first <= self.last else today >= self.first or today <= self.last
        )
        return Found(not inside, f"not between {self.first} and {self.last}: it is {today}", {"date": today})


class WorkingDay(Rule, tag="working-day", frozen=True, kw_only=True):
    """It is a working day."""

    calendar: str

    def judge(self, question: Question) -> Found:
        """Look at the calendar."""
        today = _local(question, question.now).date()
        return Found(
            is_working_day(today, Calendar.of(self.calendar)), f"on a working day: {today}", {"date": str(today)}
        )


AnyRule = (
    FactsAge
    | OverdueDays
    | OwedAtLeast
    | NoticeBefore
    | LastNotice
    | NoDispute
    | NoKeptPlan
    | NotProtected
    | NoHold
    | Forecast
    | Hours
    | NotHoliday
    | NotBetween
    | WorkingDay
)
_DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")


def _overdue_since(facts: CollectionFacts | None, notice: str) -> int | None:
    if facts is None:
        return None
    if not notice:
        return facts.overdue_since
    found = _newest(facts, notice, first=True)
    return found.delivered_at if found is not None else None


def _newest(facts: CollectionFacts | None, kind: str, *, first: bool = False) -> Notice | None:
    """Return the newest (or the first) notice of a kind that is known to have arrived."""
    if facts is None:
        return None
    found = [each for each in facts.notices if each.kind == kind and each.delivered_at is not None]
    choose: Callable[..., Notice | None] = min if first else max
    return choose(found, key=lambda each: each.delivered_at, default=None)


def _local(question: Question, instant: int) -> datetime:
    return (_EPOCH + timedelta(microseconds=instant)).astimezone(ZoneInfo(question.zone))


def _day(question: Question, instant: int) -> date:
    return _local(question, instant).date()
