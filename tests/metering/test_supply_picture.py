"""The picture of the states in the docs is the table's."""

from pathlib import Path

from metering.supply_states import FINAL, TRANSITIONS

PAGE = Path(__file__).parents[2] / "docs" / "supply-states.md"


def test_the_picture_shows_every_transition_of_the_table_and_no_other():
    picture = PAGE.read_text("utf-8").partition("```mermaid\n")[2].partition("```")[0].splitlines()
    drawn = ["stateDiagram-v2", "    [*] --> requested"]
    drawn += [f"    {state} --> {after}: {cause}" for (state, cause), after in TRANSITIONS.items()]
    drawn += [f"    {state} --> [*]" for state in sorted(FINAL)]
    assert picture == drawn
