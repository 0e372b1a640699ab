"""The examples that people copy: the site file with every setting in it, the keys, the unit, commands in pages."""

import re
import shlex
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from gateway.settings_bus import BusSettings
from metergate.cli import app
from metergate.commands.bench import BARS
from metergate.site import SiteFile, load_site

ROOT = Path(__file__).parents[2]
SITE = ROOT / "config" / "site.toml"
KEYS = ROOT / "config" / "keys.toml"
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTING = re.compile(r"^# (?=\[|[a-z_]+ = )", re.MULTILINE)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)\)")


def everything() -> str:
    """Return the site file with all that is commented out in it."""
    return SETTING.sub("", SITE.read_text())


def tables(kind: object) -> Iterator[type[BaseModel]]:
    """Yield the tables that a type of a setting holds."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif typing.get_origin(kind) is not None or isinstance(kind, types.UnionType):
        for each in typing.get_args(kind):
            yield from tables(each)


def settings(table: type[BaseModel]) -> Iterator[str]:
    """Yield the names of all settings of a table and of those inside it."""
    for name, field in table.model_fields.items():
        yield field.alias or name
        for inner in tables(field.annotation):
            yield from settings(inner)


def written(table: object) -> Iterator[str]:
    """Yield all keys of a TOML document."""
    if isinstance(table, dict):
        for key, value in table.items():
            yield key
            yield from written(value)
    elif isinstance(table, list):
        for each in table:
            yield from written(each)


def test_the_example_of_a_site_is_a_site() -> None:
    assert [meter.id for meter in load_site(SITE).meter] == ["flat-01", "main", "flat-02"]


def test_it_is_one_with_all_that_is_commented_out_too(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(everything())
    site = load_site(path)
    assert len(site.meter) == 6
    assert site.keys is not None
    assert site.push is not None


def test_it_names_every_setting() -> None:
    known = {*settings(SiteFile), *(name for kind in tables(BusSettings) for name in settings(kind))}
    assert known - set(written(tomllib.loads(everything()))) == set()


def test_the_example_of_keys_is_taken_once_real_ones_stand_in_it(tmp_path: Path) -> None:
    site, keys, master = tmp_path / "site.toml", tmp_path / "keys.toml", tmp_path / "master.key"
    text = everything().replace("/var/lib/metergate", str(tmp_path / "data"))
    site.write_text(text.replace("/etc/metergate/master.key", str(master)))
    keys.write_text(KEYS.read_text())
    run = CliRunner().invoke
    assert run(app, ["key", "init", str(master)]).exit_code == 0
    assert run(app, ["key", "import", str(site), str(keys)]).exit_code == 1  # as it stands it is refused
    real = {"32 hex digits": "0123456789abcdef" * 2, "8 hex digits": "12345678", "hex: and 6 hex digits": "hex:000000"}
    for words, digits in real.items():
        keys.write_text(keys.read_text().replace(f'"{words}"', f'"{digits}"'))
    keys.write_text(keys.read_text().replace("text, or hex: and hex digits", "a word of eight"))
    assert run(app, ["key", "import", str(site), str(keys)]).exit_code == 0
    shown = run(app, ["key", "list", str(site)]).output
    assert "flat-03  authentication,broadcast,encryption,master" in shown
    assert "flat-04  operator,password" in shown


def test_the_unit_writes_no_core_file() -> None:
    assert "\nLimitCORE=0\n" in (ROOT / "config" / "metergate.service").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_pages_are_calls(page: Path) -> None:
    for line in _commands(page.read_text()):
        command, words = get_command(app), shlex.split(line, comments=True)[1:]
        words = words[: next((at for at, word in enumerate(words) if word in {"|", ">", "&&"}), len(words))]
        while isinstance(command, TyperGroup):
            assert words, line
            command = command.commands[words.pop(0)]
        command.make_context("page", words)  # raises where it is no call


def _commands(text: str) -> Iterator[str]:
    for kind, body in FENCE.findall(text):
        if kind == "console":
            found = re.findall(r"^\$ (?:sudo -u metergate )?(?:\.venv/bin/)?(metergate .*)$", body, re.MULTILINE)
            yield from found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_in_pages_lead_somewhere(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


def test_the_site_files_in_pages_are_sites(tmp_path: Path) -> None:
    """A fragment is whole with a gateway before it; what a page shows of one meter model is tested with the models."""
    for page in PAGES:
        for kind, body in FENCE.findall(page.read_text()):
            if kind == "toml" and "[[bus]]" in body:
                path = tmp_path / "site.toml"
                head = "" if "[gateway]" in body else f'[gateway]\nid = "gw"\ndata = "{tmp_path}"\n'
                path.write_text(head + body)
                assert load_site(path).meter, page.name


def test_the_readme_counts_the_meter_models_that_come_along() -> None:
    names = [path.stem for path in (ROOT / "collector" / "profiles").glob("*.toml")]
    counts = [sum(name.startswith(prefix) for name in names) for prefix in ("mqtt_", "dlms_", "dlt645_")]
    told = "{} for Modbus, {} for MQTT devices, {} for DLMS and {} for DL/T 645 come along"
    assert told.format(len(names) - sum(counts), *counts) in (ROOT / "README.md").read_text()


def test_the_bars_in_the_page_of_measurements_are_bars() -> None:
    names = re.findall(r"^\| `([a-z-]+)`", (ROOT / "docs" / "measured.md").read_text(), re.MULTILINE)
    sources = "".join(path.read_text() for path in (ROOT / "bench").glob("*.py"))
    assert [name for name in names if name not in BARS and f'"{name}"' not in sources] == []
