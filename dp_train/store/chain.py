"""Rows linked by SHA-256: what was once written cannot be changed, reordered or left out in the middle unseen.

A chain says nothing about rows cut off at its end: `heads` compares it with last hashes that are kept elsewhere. Under
a key that is not in the database (`chain_key`) whoever can write rows cannot make their hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64
"""What the first row has for a predecessor."""


@dataclass(frozen=True, slots=True)
class Link:
    """One row as it was read: its position, the hash it says came before, its own hash, and what it says."""

    seq: int
    prev_hash: str
    row_hash: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """The first row at which a chain does not hold, and in what way."""

    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk along a chain found: how many rows hold, the hash of the last of them, and what broke it."""

    rows: int
    head: str
    broken: Broken | None


def canonical(body: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no spaces: the same values give the same bytes on every machine."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def row_hash(prev_hash: str, seq: int, body: bytes, key: bytes = b"") -> str:
    """Hash of a row: SHA-256, or HMAC under a key, over its predecessor's hash, its position and its body."""
    said = bytes.fromhex(prev_hash) + seq.to_bytes(8, "big") + body
    return hmac.digest(key, said, "sha256").hex() if key else hashlib.sha256(said).hexdigest()


def verify_chain(
    links: Iterable[Link],
    *,
    expected_head: str | None = None,
    key: bytes = b"",
    after: tuple[int, str] = (0, GENESIS),
) -> Verified:
    """Walk a chain and stop at the first row that does not hold.

    Args:
      links: in order of `seq`, which counts on from `after` without a gap. Read as a stream.
      after: how many rows hold already, and the hash of the last of them.
      expected_head: a last hash that was kept elsewhere; the chain must pass through it.
      key: under which its hashes were made; none for plain SHA-256.
    """
    (rows, previous), passed = after, expected_head in (None, GENESIS)
    for link in links:
        if link.seq != rows + 1:
            return Verified(rows, previous, Broken(rows + 1, f"row {rows + 1} is missing, row {link.seq} follows"))
        if link.prev_hash != previous:
            return Verified(rows, previous, Broken(link.seq, f"row {link.seq} does not name the row before it"))
        if not hmac.compare_digest(row_hash(previous, link.seq, link.body, key), link.row_hash):
            return Verified(rows, previous, Broken(link.seq, f"row {link.seq} was changed after it was written"))
        previous, rows = link.row_hash, rows + 1
        passed = passed or previous == expected_head
    if not passed:
        return Verified(rows, previous, Broken(rows + 1, "the end is cut off: the expected last hash is not reached"))
    return Verified(rows, previous, None)
