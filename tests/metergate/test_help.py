"""Every command says what it does and shows an example that is a call of itself."""

import shlex
from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from metergate.cli import app
from metering.errors import ConfigError


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(get_command(app)))
GROUPS = ["token", "log", "registry", "quarantine", "audit", "key", "trust", "simulate"]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_each_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    text = ALL[path].help or ""
    before, found, example = text.partition("Example: ")
    assert found, f"metergate {' '.join(path)} has no example"
    assert len(before.strip()) > 30
    words = shlex.split(example)
    assert words[: len(path) + 1] == ["metergate", *path]
    ALL[path].make_context("example", words[len(path) + 1 :])  # raises where the example is not a call


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_each_argument_and_option_is_explained(path: tuple[str, ...]) -> None:
    silent = [each.name for each in ALL[path].params if not getattr(each, "help", None)]
    assert not silent


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_has_help_with_an_example(group: str) -> None:
    assert f"Example: metergate {group} " in get_command(app).commands[group].help


def test_all_promised_commands_are_there() -> None:
    promised = [
        "demo",
        "site",
        "gateway",
        "headend",
        "enrol",
        "check",
        "read",
        "clock",
        "export",
        "kpi",
        "bench",
        "doctor",
    ]
    assert {path[0] for path in ALL} == {*promised, *GROUPS}
    assert {path for path in ALL if path[0] == "token"} == {("token", name) for name in ("create", "list", "revoke")}
    keys = (
        "init",
        "add",
        "import",
        "list",
        "remove",
        "unlock",
        "rotate",
        "make",
        "public",
        "sign",
        "transport",
        "wrap",
    )
    assert {path for path in ALL if path[0] == "simulate"} == {("simulate", "file"), ("simulate", "fleet")}
    assert {path for path in ALL if path[0] == "key"} == {("key", name) for name in keys}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_is_shown(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "-h"])
    assert shown.exit_code == 0
    assert "Example: metergate" in " ".join(shown.output.split())


@pytest.mark.parametrize("before", [[], ["file"], ["--for", "3"]], ids=["alone", "with-word", "option-first"])
def test_a_simulation_file_needs_no_word_before_it(before: list[str]) -> None:
    found = CliRunner().invoke(app, ["simulate", *before, "/nowhere/meters.toml"])
    assert isinstance(found.exception, ConfigError)
    assert "/nowhere/meters.toml" in str(found.exception)


def test_the_app_is_one_typer_app() -> None:
    assert isinstance(app, typer.Typer)
