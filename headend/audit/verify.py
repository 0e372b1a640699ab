"""Finds what was done to an audit: a changed entry, a gap, another order, an end that was taken away. Pure.

The chain finds what was changed inside it. Only a head that was kept elsewhere finds a chain that was cut off or made
anew: `anchors` are such heads, whose signatures were verified before.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from headend.audit.chain import GENESIS, Head, Link

MAX_FINDINGS = 100  # told; a chain that is broken everywhere needs no longer list


class Finding(NamedTuple):
    """What is wrong, and at which entry."""

    seq: int
    what: str


class Report(NamedTuple):
    """What a verification found: entries read, anchors held against them, and what is wrong (nothing: all is well)."""

    entries: int
    anchors: int
    findings: Sequence[Finding]


def verify(links: Iterable[Link], anchors: Iterable[Head]) -> Report:
    """Hold a whole audit against itself and against heads that were kept elsewhere."""
    expected: dict[int, str] = {}
    findings = [
        Finding(each.seq, "two signed heads differ here: one of two histories was told")
        for each in anchors
        if expected.setdefault(each.seq, each.hash) != each.hash
    ]
    count = last = 0
    met = set()
    for link, found in _walk(links):
        count += 1
        last = link.seq
        findings += found
        if link.seq in expected:
            met.add(link.seq)
            if expected[link.seq] != link.hash.hex():
                findings.append(Finding(link.seq, "the signed head of this entry has another hash: rewritten since"))
    for seq in sorted(expected.keys() - met - {0}):
        what = f"cut off: a signed head reaches to {seq}, the audit ends at {last}" if seq > last else "removed"
        findings.append(Finding(seq, what))
    return Report(count, len(expected), sorted(findings)[:MAX_FINDINGS])


def _walk(links: Iterable[Link]) -> Iterator[tuple[Link, list[Finding]]]:
    seq, prev = 0, GENESIS
    for link in links:
        found = []
        if link.seq != seq + 1:
            found.append(Finding(link.seq, f"entries {seq + 1} to {link.seq - 1} are missing"))
        if link.prev != prev:
            found.append(Finding(link.seq, "does not follow the entry before: one of the two was changed"))
        if link.computed() != link.hash:
            found.append(Finding(link.seq, "was changed: its content has another hash"))
        yield link, found
        seq, prev = link.seq, link.hash
