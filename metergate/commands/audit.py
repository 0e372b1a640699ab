"""`metergate audit`: verifies a head-end's audit, writes it out, and finds signed heads in logs. It changes nothing."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from headend.audit.chain import Head, Trail, as_json
from headend.audit.heads import HeadsFile, open_head, read_heads
from headend.audit.verify import Finding, verify
from headend.state.store import State
from metergate.headend_file import HEADS_FILE, STATE_FILE, is_headend, load_headend, open_state
from metergate.parts import log_directory
from metergate.site import load_site
from metergate.supply_file import AuditSettings
from metering.errors import ConfigError
from storage.codec import unpack_journal
from storage.inspect import records
from trust.keys import PublicKey
from trust.signatures import BadSignatureError

MAX_FORGED = 20  # heads that are told one by one


class _Place(NamedTuple):
    """Where a head-end, or a site that is its own, keeps its audit, and who signs its heads."""

    data: Path
    audit: AuditSettings | None
    open: Callable[[], State]


class _Found(NamedTuple):
    """A signed head, and where it was."""

    place: str
    signed: bytes


def run_verify(file: Path, anchors: Path | None, keys: Sequence[str], *, from_log: bool) -> int:
    """Verify the audit of a head-end or a site; print what is wrong and return the exit code.

    Raises:
        ConfigError: the file is wrong, or there are heads and no key to hold them against.
        StorageError: state, log or anchors cannot be read.

    """
    place = _place(file)
    if anchors is not None and not anchors.exists():
        raise ConfigError(f"{anchors} is not there")
    found = list(_heads(place, anchors, from_log=from_log))
    heads, forged = _opened(found, _keys(place, keys, wanted=bool(found)))
    with contextlib.closing(place.open()) as state:  # opened after the heads were read: it reaches as far
        report = verify(Trail(state).all(), heads)
    for where in forged[:MAX_FORGED]:
        print(f"{where}: a head that no known key has signed")
    for each in report.findings:
        print(_line(each))
    wrong = len(forged) + len(report.findings)
    print(f"{report.entries} entries, {report.anchors} signed heads: {f'{wrong} findings' if wrong else 'whole'}")
    if not found:
        print("no signed head was there: an end that was cut off cannot be seen; see docs/audit.md")
    return 1 if wrong else 0


def run_export(file: Path, out: Path | None) -> None:
    """Write every entry as a line of JSON."""
    with contextlib.closing(_place(file).open()) as state, contextlib.ExitStack() as stack:
        target = stack.enter_context(out.open("wb")) if out is not None else sys.stdout.buffer
        for link in Trail(state).all():
            target.write(as_json(link) + b"\n")
        target.flush()


def run_heads(directory: Path) -> None:
    """Print the signed heads of a log."""
    for head in heads_of(directory):
        sys.stdout.buffer.write(head + b"\n")
    sys.stdout.flush()


def heads_of(directory: Path) -> list[bytes]:
    """Return the signed heads that a log holds. Raises `StorageError`."""
    return [each.signed for each in _of_log(directory)]


def _place(file: Path) -> _Place:
    if is_headend(file):
        headend = load_headend(file)
        return _Place(headend.headend.data, headend.audit, lambda: open_state(headend))
    site = load_site(file)
    return _Place(site.gateway.data, site.audit, lambda: State.open(site.gateway.data / STATE_FILE))


def _line(finding: Finding) -> str:
    return f"entry {finding.seq}: {finding.what}"


def _heads(place: _Place, anchors: Path | None, *, from_log: bool) -> Iterator[_Found]:
    """Yield those that were kept here, and those that were asked for."""
    data = place.data
    yield from _numbered(data / HEADS_FILE, HeadsFile(data / HEADS_FILE).read())
    if anchors is not None:
        yield from _numbered(anchors, read_heads(anchors))
    if from_log:
        yield from _of_log(data)


def _numbered(path: Path, lines: Iterable[bytes]) -> Iterator[_Found]:
    return (_Found(f"{path}, head {number}", line) for number, line in enumerate(lines, 1))


def _of_log(data: Path) -> Iterator[_Found]:
    inside = log_directory(data)
    for record in records(inside if inside.is_dir() else data):
        try:
            entries = unpack_journal(record.payload)
        except ValueError:  # of a newer version, or damaged: `metergate log inspect` tells
            continue
        for entry in entries:
            if entry.kind == "anchor" and "head" in entry.detail:
                yield _Found(f"log, seq {record.seq}", entry.detail["head"].encode())


def _keys(place: _Place, texts: Sequence[str], *, wanted: bool) -> list[PublicKey]:
    try:
        keys = [PublicKey.parse(text) for text in texts]
    except ValueError as error:
        raise ConfigError(f"--key: {error}") from None
    if place.audit is not None:
        keys.append(place.audit.load().public)
    if wanted and not keys:
        raise ConfigError("signed heads are there, but neither [audit] key in the file nor --key says who signed them")
    return keys


def _opened(found: Iterable[_Found], keys: Sequence[PublicKey]) -> tuple[list[Head], list[str]]:
    heads, forged = [], []
    for each in found:
        head = _open(each.signed, keys)
        if head is None:
            forged.append(each.place)
        else:
            heads.append(head)
    return heads, forged


def _open(signed: bytes, keys: Sequence[PublicKey]) -> Head | None:
    for key in keys:
        with contextlib.suppress(BadSignatureError):
            return open_head(signed, key).head
    return None
