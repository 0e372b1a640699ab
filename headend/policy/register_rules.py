"""Rules about what stands in a register: protected customers, holds, the forecast. Pure; figures are a rule set's."""

from headend.policy.facts import Question
from headend.policy.rule import Found, Rule, day
from metering.model import SECOND


class NotProtected(Rule, tag="not-protected", frozen=True, kw_only=True):
    """The meter point stands in no register of protected customers. Every rule set has it, for all reasons.

    Were it for a debt alone, whoever requests could choose another reason.
    """

    reasons: tuple[str, ...] = ()

    def judge(self, question: Question) -> Found:
        """Look into the register. No number of approvals changes what is found."""
        found = question.of("protected")
        says = ", ".join(f"{each.name} since {day(question, each.since)}" for each in found) or "not in the register"
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
