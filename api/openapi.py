"""The committed OpenAPI document: `python -m api.openapi` writes it anew, unless it would take anything away.

`/v1` changes only by addition; a test holds the app to the file.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from api.app import bare_app

PATH = Path(__file__).with_name("openapi.json")

_WORDS = frozenset({"description", "title", "summary", "example", "examples", "version", "operationId", "tags"})
_MAY_GROW = frozenset({"maximum", "maxLength", "maxItems"})
_MAY_SHRINK = frozenset({"minimum", "minLength", "minItems"})
_CONSTRAINTS = _MAY_GROW | _MAY_SHRINK | {"pattern", "enum", "const", "format", "type"}


def document() -> dict[str, Any]:
    """Return the document of the present app."""
    return bare_app().openapi()


def narrowings(old: object, new: object, path: str = "") -> Iterator[str]:
    """Yield what a client of the old document would miss or be refused under the new one."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _of_mapping(old, new, path)
    elif isinstance(old, Sequence) and isinstance(new, Sequence) and not isinstance(old, str):
        yield from _of_list(old, new, path)
    elif old != new and not _widens(path.rpartition("/")[2], old, new):
        yield f"{path}: {old!r} became {new!r}"


def _of_mapping(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    named = path.endswith("/properties")  # there, keys are names of fields and not words of the schema
    for key, value in old.items():
        if key not in new:
            if key not in _MAY_GROW | _MAY_SHRINK and (named or key not in _WORDS):
                yield f"{path}/{key}: is gone"
        elif named or key not in _WORDS:
            yield from narrowings(value, new[key], f"{path}/{key}")
    if not named and old:
        yield from (f"{path}/{key}: is a new constraint" for key in new if key in _CONSTRAINTS and key not in old)


def _of_list(old: Sequence[Any], new: Sequence[Any], path: str) -> Iterator[str]:
    if path.endswith("/parameters"):
        before, after = ({(each["in"], each["name"]): each for each in side} for side in (old, new))
        yield from _of_mapping(_texts(before), _texts(after), f"{path}/properties")
        yield from (
            f"{path}/{name}: is new and required"
            for (_, name), each in after.items()
            if each.get("required") and ("", name) not in before and not any(name == known for _, known in before)
        )
        return
    yield from (f"{path}: {each!r} is gone" for each in old if each not in new)


def _texts(named: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    return {f"{place} {name}": value for (place, name), value in named.items()}


def _widens(key: str, old: object, new: object) -> bool:
    if not isinstance(old, int | float) or not isinstance(new, int | float):
        return False
    return (key in _MAY_GROW and new > old) or (key in _MAY_SHRINK and new < old)


def text(of: Mapping[str, Any]) -> str:
    """Return a document as it is committed."""
    return json.dumps(of, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the document beside this module; 1 and a list where it would take something away."""
    new = document()
    lost = list(narrowings(json.loads(PATH.read_text("utf-8")), new)) if PATH.exists() else []
    if lost:
        sys.stderr.write("\n".join(["/v1 changes only by addition:", *lost, ""]))
        return 1
    PATH.write_text(text(new), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
