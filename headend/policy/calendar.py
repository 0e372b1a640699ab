"""Public holidays and working days, by the package `holidays`. It knows no rule."""

from datetime import date, timedelta
from functools import lru_cache
from typing import Self

import holidays

from metering.errors import ConfigError

SATURDAY = 5
LANGUAGE = "en_US"  # of holidays' names in evidence, wherever the process runs; the country's own where it lacks it
LONGEST = 400  # days that are counted; a notice that is older is old enough


class Calendar:
    """The public holidays of a country or a part of it: `CN`, `GB-ENG`, `AU-NSW`, `US-NY`."""

    def __init__(self, name: str) -> None:
        country, _, part = name.partition("-")
        try:
            self._days = holidays.country_holidays(country, subdiv=part or None, language=LANGUAGE)
        except NotImplementedError:
            raise ConfigError(f"there is no calendar {name!r}; one reads like GB-ENG, CN, AU-NSW, US-NY") from None

    @classmethod
    @lru_cache(maxsize=32)
    def of(cls, name: str) -> Self:
        """Return a calendar by its name. Raises `ConfigError` where there is none."""
        return cls(name)

    def name_of(self, day: date) -> str:
        """Return the name of a public holiday; empty on other days."""
        return str(self._days.get(day) or "")


def is_working_day(day: date, calendar: Calendar) -> bool:
    """Tell whether it is neither a weekend's day nor a public holiday."""
    return day.weekday() < SATURDAY and not calendar.name_of(day)


def working_days_between(since: date, until: date, calendar: Calendar) -> int:
    """Return the working days after `since` up to and with the day before `until`: whole days of notice."""
    days = min((until - since).days, LONGEST)
    return sum(is_working_day(since + timedelta(days=each), calendar) for each in range(1, days))
