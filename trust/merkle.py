"""The tree of a campaign's commands: one root is signed, and each command proves that it belongs to it.

As in RFC 6962, 2.1: leaves and nodes are hashed under different first bytes, so that no node passes for a leaf. An odd
node at the end of a level goes up as it is.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Literal

Proof = Sequence[tuple[Literal["l", "r"], bytes]]

DIGEST_BYTES = 32
MAX_DEPTH = 14  # 2**14 leaves are more than a campaign has
_LEAF, _NODE = b"\x00", b"\x01"


def leaf(body: bytes) -> bytes:
    """Return the digest of a command's canonical bytes."""
    return hashlib.sha256(_LEAF + body).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over the leaves' digests, in their order.

    Raises:
        ValueError: there are none, or more than 2**MAX_DEPTH.

    """
    return _levels(leaves)[-1][0]


def proofs_of(leaves: Sequence[bytes]) -> list[Proof]:
    """Return the proof of each leaf. Raises as `root_of`."""
    levels = _levels(leaves)
    return [_proof(levels, index) for index in range(len(leaves))]


def leads_to(body: bytes, proof: Proof, root: bytes) -> bool:
    """Tell whether a command's canonical bytes lead to the root by this proof."""
    if len(proof) > MAX_DEPTH or any(len(other) != DIGEST_BYTES for _, other in proof):
        return False
    digest = leaf(body)
    for side, other in proof:
        digest = _node(other, digest) if side == "l" else _node(digest, other)
    return hmac.compare_digest(digest, root)


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    if not 0 < len(leaves) <= 1 << MAX_DEPTH:
        raise ValueError(f"{len(leaves)} commands; a campaign has 1 to {1 << MAX_DEPTH}")
    levels = [list(leaves)]
    while len(level := levels[-1]) > 1:
        pairs = [_node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        levels.append(pairs + level[len(pairs) * 2 :])
    return levels


def _proof(levels: Sequence[Sequence[bytes]], index: int) -> Proof:
    found: list[tuple[Literal["l", "r"], bytes]] = []
    for level in levels[:-1]:
        other = index ^ 1
        if other < len(level):
            found.append(("l" if other < index else "r", level[other]))
        index //= 2
    return found


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
