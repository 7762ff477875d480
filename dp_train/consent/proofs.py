"""Shows that a person is in a snapshot, or is not in it, to whoever has the proof and the root alone.

The leaves of a snapshot are sorted and their number is in its root, so a person is absent when two leaves that
stand next to each other lie around their place. A leaf is a hash of the pseudonym and a commitment to the
decisions: whoever sees a proof learns of the neighbours that they exist, and nothing else.

A verifier needs the proof and a root from elsewhere (a run's card, a ledger line). That the pseudonym is
the person's own takes the key as well. A proof of absence also shows that of everybody else whose place lies between
the same neighbours, so changing its pseudonym may give another proof, which is true too.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dp_train.consent.merkle import audit_path, fold_path
from dp_train.consent.snapshot import ConsentSnapshot, leaf_of, organisations_of, people_of, place_of, total_root
from dp_train.errors import ConsentError
from dp_train.store.chain import canonical

FORMAT = "dp_train consent proof 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a proof that holds shows: whether the person is in the snapshot of `root`, and their packed cells."""

    root: str
    pseudonym: str
    included: bool
    cells: bytes


def prove(snapshot: ConsentSnapshot, pseudonym: str) -> bytes:
    """The proof that a person is in a snapshot, or is not, as canonical JSON. It tells the person's decisions."""
    names, people = people_of(snapshot)
    organisation_root, organisations = organisations_of(snapshot)
    name = bytes.fromhex(pseudonym)
    at = bisect_left(names, place_of(name), key=place_of)
    included = bool(people.get(name))
    chosen = [at] if included else [index for index in (at - 1, at) if 0 <= index < len(names)]
    leaves = [leaf_of(each, people[each]) for each in names]
    proof = {
        "format": FORMAT,
        "root": snapshot.root,
        "pseudonym": pseudonym,
        "cells": people[name].hex() if included else None,
        "people": len(names),
        "organisations": [organisations, organisation_root.hex()],
        "leaves": [
            {"index": index, "leaf": leaves[index].hex(), "path": [step.hex() for step in audit_path(leaves, index)]}
            for index in chosen
        ],
    }
    return canonical(proof)


def verify_proof(text: bytes) -> Shown:
    """Check a proof against the root that it names; hold `Shown.root` against one that was kept elsewhere.

    Raises:
      ConsentError: it is no proof, byte for byte as `prove` writes it, or it does not hold.
    """
    try:
        proof = json.loads(text)
        if canonical(proof) != text.strip() or proof["format"] != FORMAT:
            raise ValueError
        name, cells = _bytes(proof["pseudonym"], 32), proof["cells"]
        organisations = (_bytes(proof["organisations"][1], 32), _count(proof["organisations"][0]))
        count, root = _count(proof["people"]), str(proof["root"])
        found = [
            (_count(one["index"]), _bytes(one["leaf"], 64), [_bytes(step, 32) for step in one["path"]])
            for one in proof["leaves"]
        ]
        decided = None if cells is None else _bytes(cells)
    except (ArithmeticError, KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        raise ConsentError(
            "consent proof: not a proof; expected what `dp-train consent snapshot --prove` wrote, unchanged"
        ) from None
    roots = {fold_path(leaf, index, count, path) for index, leaf, path in found}
    if not found and count == 0:
        roots = {hashlib.sha256(b"").digest()}
    (people,) = roots if len(roots) == 1 else (None,)
    holds = people is not None and total_root((people, count), organisations) == root
    if decided is None:
        holds = holds and _stands_between(place_of(name), [(index, leaf[:32]) for index, leaf, _ in found], count)
    else:
        holds = holds and bool(decided) and [leaf for _, leaf, _ in found] == [leaf_of(name, decided)]
    if not holds:
        raise ConsentError("consent proof: does not hold for the root it names; ask for a new one of that snapshot")
    return Shown(root=root, pseudonym=name.hex(), included=decided is not None, cells=decided or b"")


def _stands_between(place: bytes, around: Sequence[tuple[int, bytes]], count: int) -> bool:
    """Whether the leaves are neighbours, or an end, with the place between them."""
    if count == 0:
        return not around
    if len(around) == 2:
        (left, before), (right, after) = around
        return right == left + 1 and before < place < after
    if len(around) != 1:
        return False
    index, other = around[0]
    return (index == 0 and place < other) or (index == count - 1 and other < place)


def _bytes(text: Any, length: int | None = None) -> bytes:
    found = bytes.fromhex(text)
    if found.hex() != text or length not in (None, len(found)):
        raise ValueError
    return found


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError
    return value
