"""Runs a program in the environment of the peers and returns what it printed. Measures nothing."""

import json
import subprocess
from pathlib import Path
from typing import Any

PYTHON = Path(__file__).parents[1] / ".peers" / "bin" / "python"
PROGRAMS = Path(__file__).parent / "peers"
LONGEST_S = 120


def ask_peers(program: str, *arguments: object) -> dict[str, Any]:
    """Return the JSON object that `bench/peers/<program>` printed last.

    Raises:
        FileNotFoundError: the environment is not there.
        RuntimeError: the program failed.

    """
    if not PYTHON.exists():
        raise FileNotFoundError(f"{PYTHON} is not there; make it with: make peers")
    call = [str(PYTHON), str(PROGRAMS / program), *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
