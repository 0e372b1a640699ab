from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.embedded import EmbeddedStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path / "readings.db")
    yield opened
    opened.close()
