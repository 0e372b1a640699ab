"""What others see of supply commands stays: answers, problems and the requests of webhooks, as they were once."""

import json
from pathlib import Path

from tests.api.example_site import Site
from tests.api.holding import holds
from tests.api.supply_story import tell

GOLDEN = Path(__file__).parent / "golden" / "supply"


def test_what_is_told_of_supply_commands_is_what_it_was(site: Site, tmp_path: Path) -> None:
    told = tell(site, tmp_path)
    kept = {each.stem: json.loads(each.read_text("utf-8")) for each in sorted(GOLDEN.glob("*.json"))}
    assert kept.keys() <= told.keys()
    for name, golden in kept.items():
        holds(golden, told[name], name)
