"""Merkle root of a sequence of leaves, in memory that grows with the logarithm of its length.

The tree is that of RFC 6962: SHA-256(0x00 ‖ leaf) for a leaf and SHA-256(0x01 ‖ left ‖ right) for a node, so
that no leaf can pass for a node; an odd node at the end of a level moves up as it is. The root of no
leaves is SHA-256 of nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def merkle_root(leaves: Iterable[bytes]) -> tuple[bytes, int]:
    """Root (32 bytes) and number of the leaves. The caller brings them into a canonical order."""
    stack: list[tuple[int, bytes]] = []  # (height, root) of perfect subtrees, heights fall from left to right
    count = 0
    for leaf in leaves:
        height, node = 0, hashlib.sha256(b"\x00" + leaf).digest()
        while stack and stack[-1][0] == height:
            node = _join(stack.pop()[1], node)
            height += 1
        stack.append((height, node))
        count += 1
    if not stack:
        return hashlib.sha256(b"").digest(), 0
    node = stack.pop()[1]
    while stack:
        node = _join(stack.pop()[1], node)
    return node, count


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
