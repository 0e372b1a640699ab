"""Each codec under atheris for 4 seconds, from a corpus of true frames; in `make soak` for FUZZ_SECONDS."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
VECTORS = HERE.parent / "vectors"
SECONDS = 4
SOAK_SECONDS = int(os.environ.get("FUZZ_SECONDS", "600"))
MEMORY_MB = 512  # of the process, atheris included
SLOWEST_S = 5  # one input

TARGETS = sorted(
    name
    for file in HERE.glob("targets_*.py")
    for name in re.findall(r"^def fuzz_(\w+)\(data: bytes\) -> None:", file.read_text(encoding="utf-8"), re.MULTILINE)
)


def frames() -> list[bytes]:
    """All vectors, whole: what belongs to another protocol is a bad input like any other."""
    found = []
    for file in sorted(VECTORS.glob("*.json")):
        for vector in json.loads(file.read_text(encoding="utf-8")):
            texts = vector["hex"] if isinstance(vector["hex"], list) else [vector["hex"]]
            found += [bytes.fromhex(text) for text in texts]
    return found


def fuzz(target: str, folder: Path, seconds: int) -> str:
    """Run one target; return what went wrong, empty where nothing did."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, frame in enumerate(frames()):
        (corpus / f"vector-{number}").write_bytes(frame)
    kept = HERE / "corpus" / target
    call = [sys.executable, str(HERE / "run.py"), target, str(corpus), *([str(kept)] if kept.exists() else [])]
    call += [f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SLOWEST_S}", "-max_len=4096"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)|Done (\d+) runs", done.stderr)
    if done.returncode == 0 and runs:
        return ""
    crashes = [f"{path.name}: {path.read_bytes().hex()}" for path in folder.glob("*-*") if path.is_file()]
    return "\n".join([done.stdout[-4000:], done.stderr[-4000:], *crashes])


def test_each_codec_has_a_target() -> None:
    assert set(TARGETS) >= {"axdr", "apdu", "acse", "hdlc_frame", "wrapper", "ciphering", "mode_e", "load_profile"}
    assert any(name.startswith("dlt645") for name in TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_bad_input_ends_in_a_named_error(target: str, tmp_path: Path) -> None:
    assert fuzz(target, tmp_path, SECONDS) == ""


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_bad_input_ends_in_a_named_error_for_as_long_as_asked(target: str, tmp_path: Path) -> None:
    assert fuzz(target, tmp_path, SOAK_SECONDS) == ""
