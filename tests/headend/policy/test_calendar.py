"""Holidays are named alike wherever the head-end runs: their names stand in evidence."""

import os
import subprocess
import sys
from datetime import date

import pytest

from headend.policy.calendar import Calendar

ASK = "from datetime import date; from headend.policy.calendar import Calendar as C; print(C('CN').name_of(date({})))"


@pytest.mark.parametrize("locale", [{}, {"LANG": "C.UTF-8"}, {"LANG": "zh_CN.UTF-8"}, {"LANGUAGE": "th"}], ids=str)
def test_a_holidays_name_does_not_depend_on_the_locale(locale: dict[str, str]):
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **locale}
    said = subprocess.run([sys.executable, "-c", ASK.format("2026, 10, 1")], env=bare, capture_output=True, check=True)
    assert said.stdout.decode().strip() == "National Day"


@pytest.mark.parametrize("name", ["CN", "GB-ENG", "AU-NSW", "US-NY", "US-MD", "HN", "TL", "PG"])
def test_a_working_day_has_no_name_and_a_holiday_has_one(name: str):
    calendar = Calendar(name)
    assert calendar.name_of(date(2026, 1, 1))
    assert not calendar.name_of(date(2026, 6, 30))
