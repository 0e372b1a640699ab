"""Rules about what stands in a register: protected customers, holds, the forecast. Pure; figures are a rule set's."""

import math

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
    """The forecasts (holds named so, with low_c and high_c) stay between two temperatures, and there is a fresh one.

    Of several the worst counts: nobody makes the weather milder by adding another.
    """

    below_c: float | None = None  # not when it is to fall to this
    above_c: float | None = None  # or to rise to this
    hours: float = 24  # how old it may be

    def judge(self, question: Question) -> Found:
        """Look at the fresh forecasts; an old one, and none, count as no."""
        name, oldest = "weather allows it", question.now - int(self.hours * 3600 * SECOND)
        found = [each for each in question.of("hold") if each.name == "forecast" and each.since >= oldest]
        if not found:
            return Found(False, f"{name}: there is no forecast of the last {self.hours:g} hours", {})  # noqa: FBT003 - Found's own
        lows, highs = [], []
        for each in found:
            try:
                lows.append(_degrees(each.detail["low_c"]))
                highs.append(_degrees(each.detail["high_c"]))
            except (KeyError, ValueError):
                return Found(False, f"{name}: the forecast {each.id} cannot be read", {"entries": each.id})  # noqa: FBT003 - Found's own
        low, high = min(lows), max(highs)
        cold = self.below_c is not None and low <= self.below_c
        hot = self.above_c is not None and high >= self.above_c
        inputs = {"entries": ",".join(each.id for each in found)}
        return Found(not cold and not hot, f"{name}: {low:g} to {high:g} degrees C", inputs)


def _degrees(text: str) -> float:
    """Return a temperature. Raises `ValueError`: it is none (nan is no degree, and above and below nothing)."""
    degrees = float(text)
    if not math.isfinite(degrees):
        raise ValueError(text)
    return degrees
