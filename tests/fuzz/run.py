"""Fuzzes one codec with atheris. A program of its own: `python tests/fuzz/run.py TARGET CORPUS [libFuzzer options]`.

A target is a function `fuzz_<name>(data: bytes)` of a module `targets_*.py` beside this file. It lets nothing through
but what is a fault of ours: every other outcome of bad input is a named error, in bounded time and memory.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

HERE = Path(__file__).parent


def targets() -> dict[str, Callable[[bytes], None]]:
    """Return all targets by name."""
    sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
    found: dict[str, Callable[[bytes], None]] = {}
    for file in sorted(HERE.glob("targets_*.py")):
        module = importlib.import_module(file.stem)
        found |= {name.removeprefix("fuzz_"): value for name, value in vars(module).items() if name.startswith("fuzz_")}
    return found


if __name__ == "__main__":
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["collector.protocols"]):
        target = targets()[name]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
