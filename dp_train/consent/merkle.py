"""Merkle root of a sequence of leaves, in memory that grows with the logarithm of its length.

The tree is that of RFC 6962: SHA-256(0x00 ‖ leaf) for a leaf and SHA-256(0x01 ‖ left ‖ right) for a node, so
that no leaf can pass for a node; an odd node at the end of a level moves up as it is. The root of no
leaves is SHA-256 of nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


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


def audit_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Hashes from a leaf's sibling up to the root's child, as RFC 6962 §2.1.1 orders them."""
    level = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    path: list[bytes] = []
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        level = [_join(*level[at : at + 2]) if at + 1 < len(level) else level[at] for at in range(0, len(level), 2)]
        index //= 2
    return path


def fold_path(leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes | None:
    """Root that a leaf and its path lead to in a tree of `count` leaves; None where the path does not fit."""
    if not 0 <= index < count:
        return None
    node, last, steps = hashlib.sha256(b"\x00" + leaf).digest(), count - 1, iter(path)
    while last:
        if index & 1 or index < last:  # else an odd node at the end, which moves up as it is
            step = next(steps, None)
            if step is None or len(step) != 32:
                return None
            node = _join(step, node) if index & 1 else _join(node, step)
        index, last = index // 2, last // 2
    return None if next(steps, None) is not None else node


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
