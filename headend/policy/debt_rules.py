"""Rules about a debt: facts, sums, notices, disputes and plans. Pure; every figure in them is a rule set's."""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from headend.policy.calendar import Calendar, working_days_between
from headend.policy.facts import AHEAD_S, CollectionFacts, Notice, Question
from headend.policy.rule import Found, Rule, local
from metering.model import SECOND

DAY = 86_400 * SECOND
NO_FACTS = "collections has said nothing"


class FactsAge(Rule, tag="facts-age", frozen=True, kw_only=True):
    """What collections said is not older than so many hours: too old counts as no."""

    hours: float

    def judge(self, question: Question) -> Found:
        """Compare the age."""
        if question.facts is None:
            return Found(False, f"facts at most {self.hours:g} h old: {NO_FACTS}", {})  # noqa: FBT003 - Found's own
        age = (question.now - question.facts.at) / SECOND / 3600
        early = age * 3600 < -AHEAD_S  # of the future, by more than two clocks differ
        says = f"facts at most {self.hours:g} h old: {age:.1f} h"
        return Found(not early and age <= self.hours, says, {"facts_at": str(question.facts.at)})


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
        since, now = local(question, found.delivered_at), local(question, question.now)
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
