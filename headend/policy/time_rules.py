"""Rules about the local hour and date. Pure; every figure in them is a rule set's."""

from datetime import timedelta

from headend.policy.calendar import Calendar, is_working_day
from headend.policy.facts import Question
from headend.policy.rule import Found, Rule, local

_DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")


class Hours(Rule, tag="hours", frozen=True, kw_only=True):
    """The local time lies between two hours, on these weekdays (0 is Monday)."""

    first: str  # HH:MM
    last: str
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)

    def judge(self, question: Question) -> Found:
        """Look at the clock of the meter point."""
        moment = local(question, question.now)
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
        today = local(question, question.now).date()
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
        today = local(question, question.now).strftime("%m-%d")
        inside = (
            self.first <= today <= self.last if self.first <= self.last else today >= self.first or today <= self.last
        )
        return Found(not inside, f"not between {self.first} and {self.last}: it is {today}", {"date": today})


class WorkingDay(Rule, tag="working-day", frozen=True, kw_only=True):
    """It is a working day."""

    calendar: str

    def judge(self, question: Question) -> Found:
        """Look at the calendar."""
        today = local(question, question.now).date()
        return Found(
            is_working_day(today, Calendar.of(self.calendar)), f"on a working day: {today}", {"date": str(today)}
        )
