"""The kinds of rules that a rule set may name, as one type. Every figure in them is a rule set's.

A rule is of a kind and has that kind's parameters as fields; `judge` returns passed, a sentence, and the inputs.
"""

from headend.policy.debt_rules import (
    FactsAge,
    LastNotice,
    NoDispute,
    NoKeptPlan,
    NoticeBefore,
    OverdueDays,
    OwedAtLeast,
)
from headend.policy.register_rules import Forecast, NoHold, NotProtected
from headend.policy.time_rules import Hours, NotBetween, NotHoliday, WorkingDay

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
