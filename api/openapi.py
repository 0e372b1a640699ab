"""The committed OpenAPI document: `python -m api.openapi` writes it anew; a test holds the app to it."""

import json
from pathlib import Path

from api.app import bare_app

PATH = Path(__file__).with_name("openapi.json")


def text() -> str:
    """Return the document of the present app."""
    return json.dumps(bare_app().openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write() -> None:
    """Write the document beside this module."""
    PATH.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write()
