"""Reads a TOML file into a checked model, or raises one `ConfigError` that names file, line and key. Knows no settings.

Of many mistakes the first in the file is told, with "and N more": a list of twenty hides the one that matters.
"""

import re
import tomllib
from collections.abc import Hashable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from collector.toml_lines import KeyPath, key_lines, line_of
from metering.errors import ConfigError

M = TypeVar("M", bound=BaseModel)

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=")
_SECRET = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)
_SHOWN = 40  # characters of a wrong value that are repeated in the message


def read_text(path: Path) -> str:
    """Return the file's text.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8.

    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError("is not UTF-8 text", file=str(path), line=line) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from None


def load_toml(path: Path) -> dict[str, Any]:
    """Return the file's tables.

    Raises:
        ConfigError: the file cannot be read or is not TOML; names the line, and the key where one stands in it.

    """
    return _parse(path, read_text(path))


def validate(model: type[M], path: Path) -> M:
    """Return the file as an instance of `model`.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or does not fit; names file, line and key.

    """
    text = read_text(path)
    try:
        return model.model_validate(_parse(path, text))
    except ValidationError as error:
        raise _told(model, path, text, error.errors(include_url=False)) from None


def error_at(path: Path, key: KeyPath, message: str) -> ConfigError:
    """Return the error for a value that is wrong for a reason no model knows (an id that names nothing, say)."""
    return ConfigError(message, file=str(path), line=locate(read_text(path), key), key=dotted(key))


def unique(path: Path, key: KeyPath, field: str, values: Sequence[Hashable]) -> None:
    """Check that no two items of the list at `key` have the same value of `field`; `values` are theirs, in order.

    Raises:
        ConfigError: at the second of them, saying where the first is.

    """
    seen: dict[Hashable, int] = {}
    for index, value in enumerate(values):
        first = seen.setdefault(value, index)
        if first != index:
            line = locate(read_text(path), (*key, first, field))
            raise error_at(path, (*key, index, field), f"{value!r} is already used in line {line}")


def locate(text: str, key: KeyPath) -> int:
    """Return the line of the key, or of the nearest table around it that is written; 1 where none is."""
    return line_of(key_lines(text), key)


def dotted(key: KeyPath) -> str:
    """Return the key as text: `meter[3].unit`, indexes counted from 0."""
    out = ""
    for part in key:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        lines = text.splitlines()
        place = _PLACE.search(message)
        line = int(place[1]) if place and place[1] else len(lines)
        found = _KEY.match(lines[line - 1]) if 0 < line <= len(lines) else None
        said = _PLACE.sub("", message)
        raise ConfigError(
            f"not TOML: {said[:1].lower()}{said[1:]}", file=str(path), line=max(line, 1), key=found[1] if found else ""
        ) from None


def _told(model: type[BaseModel], path: Path, text: str, errors: list[ErrorDetails]) -> ConfigError:
    lines = key_lines(text)
    keys = [_key_of(lines, error) for error in errors]
    # A misspelt key is told as such, not as the one that is now missing from the same table.
    misspelt = {key[:-1] for key, error in zip(keys, errors, strict=True) if error["type"] == "extra_forbidden"}
    candidates = [
        (line_of(lines, key), index)
        for index, (key, error) in enumerate(zip(keys, errors, strict=True))
        if not (error["type"] == "missing" and key[:-1] in misspelt)
    ]
    line, index = min(candidates)
    error, key = errors[index], keys[index]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return ConfigError(_message(model, key, error) + more, file=str(path), line=line, key=dotted(key))


def _key_of(lines: dict[KeyPath, int], error: ErrorDetails) -> KeyPath:
    """Return the key in the file that an error is about; of a table of several kinds, the one that says the kind."""
    key = _written(lines, error["loc"])
    if error["type"] == "union_tag_invalid":
        return (*key, str(error["ctx"]["discriminator"]).strip("'"))
    return key


def _written(lines: dict[KeyPath, int], loc: KeyPath) -> KeyPath:
    """Return the location without what pydantic adds for unions (tags and type names), which no file contains."""
    key: KeyPath = ()
    for position, part in enumerate(loc):
        if (*key, part) in lines or (position == len(loc) - 1 and not _is_tag(part)):
            key = (*key, part)
    return key


def _is_tag(part: str | int) -> bool:
    """Tell whether a part of pydantic's location names a member of a union and not a key."""
    return isinstance(part, str) and not re.fullmatch(r"[A-Za-z0-9_-]+", part)


def _message(model: type[BaseModel], key: KeyPath, error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        known = _names_at(model, key[:-1])
        near = get_close_matches(str(key[-1]), known, n=1)
        return f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; known are {', '.join(known)}"
    if error["type"] == "union_tag_invalid":
        return f"{error['ctx']['tag']!r} is none of {error['ctx']['expected_tags']}"
    message = error["msg"].removeprefix("Value error, ")
    value = error["input"]
    if error["type"] == "value_error" or not isinstance(value, str | int | float) or _SECRET.search(dotted(key)):
        return message[:1].lower() + message[1:]
    shown = repr(value)
    return f"{message[:1].lower()}{message[1:]}, not {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}"


def _names_at(model: type[BaseModel], key: KeyPath) -> list[str]:
    """Return the keys that the table at this place may have; of several possible models, all of theirs."""
    models = [model]
    for part in key:
        if isinstance(part, int):
            continue
        found = [field for m in models for name, field in m.model_fields.items() if part in (name, field.alias)]
        models = [inner for field in found for inner in _models_in(field.annotation)]
    return sorted({field.alias or name for m in models for name, field in m.model_fields.items()})


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
