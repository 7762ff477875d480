"""Proofs of inclusion and exclusion: they hold for everybody, and no changed proof shows what is not so."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import KEY, event, snapshot

from dp_train.consent.events import EventState
from dp_train.consent.merkle import audit_path, fold_path, merkle_root
from dp_train.consent.proofs import prove, verify_proof
from dp_train.consent.snapshot import readable
from dp_train.errors import ConsentError
from dp_train.store.chain import canonical

NINE = [f"person {number}" for number in range(9)]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=3), min_size=1, max_size=40), st.data())
def test_every_leaf_has_a_path_to_the_root_and_no_other_does(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = audit_path(leaves, index)
    root, count = merkle_root(leaves)
    assert fold_path(leaves[index], index, count, path) == root
    assert fold_path(leaves[index] + b"x", index, count, path) != root
    assert fold_path(leaves[index], index, count, [*path, bytes(32)]) is None
    assert fold_path(leaves[index], count, count, path) is None
    if path:
        assert fold_path(leaves[index], index, count, path[:-1]) is None
        assert fold_path(leaves[index], index, count, [bytes(32), *path[1:]]) != root


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 12))
def test_who_is_in_can_be_shown_and_who_is_not_too(people: int) -> None:
    frozen = snapshot(agreeing=[f"person {number}" for number in range(people)])
    for number in range(people + 6):
        found = verify_proof(prove(frozen, KEY.pseudonym(f"person {number}")))
        assert (found.included, found.root) == (number < people, frozen.root)
        assert found.pseudonym == KEY.pseudonym(f"person {number}")


def test_the_proof_tells_the_decisions_of_its_person() -> None:
    frozen = snapshot(event("ann", EventState.WITHDRAWN, 3), agreeing=["ann", *NINE])
    found = verify_proof(prove(frozen, KEY.pseudonym("ann")))
    assert {reason for _, _, reason in readable(found.cells)} == {"withdrawn"}


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(["person 3", "nobody"]), st.integers(0, 10**6), st.integers(1, 255))
def test_no_changed_byte_shows_anything_that_is_not_so(person: str, place: int, flip: int) -> None:
    frozen = snapshot(agreeing=NINE)
    proof = bytearray(prove(frozen, KEY.pseudonym(person)))
    proof[place % len(proof)] ^= flip
    try:
        found = verify_proof(bytes(proof))
    except ConsentError:
        return
    # The neighbours of an absent person show the absence of others as well: another proof, and a true one.
    assert person == "nobody"
    assert not found.included
    assert found.root == frozen.root
    assert found.pseudonym not in {KEY.pseudonym(one) for one in NINE}


def _changes(proof: dict[str, Any]) -> list[Any]:
    leaves = proof["leaves"]
    changed: list[Any] = [{}, [], None, {**proof, "leaves": leaves[:-1]}, {**proof, "leaves": leaves * 2}]
    values: dict[str, list[Any]] = {
        "people": [8, 10, 0, -1, True, 1e3, 1 << 64],
        "root": ["00" * 32, "", None],
        "cells": ["00" * 20, "", proof["cells"] is None or None],
        "organisations": [[0, "00" * 32], [], [1, "00"]],
        "leaves": [[], None, [{}]],
        "format": ["another"],
    }
    for key, others in values.items():
        changed += [{**proof, key: other} for other in others]
    parts: dict[str, list[Any]] = {"index": [0, 4, 8, 9, -1], "leaf": ["00" * 64, "00"], "path": [[], ["00" * 32]]}
    for at, leaf in enumerate(leaves):
        for key, others in parts.items():
            for other in others:
                changed.append({**proof, "leaves": [*leaves[:at], {**leaf, key: other}, *leaves[at + 1 :]]})
    return [one for one in changed if one != proof]


@pytest.mark.parametrize("person", ["person 3", "nobody"])
def test_changed_proof_is_refused(person: str) -> None:
    proof = json.loads(prove(snapshot(agreeing=NINE), KEY.pseudonym(person)))
    assert verify_proof(canonical(proof))
    for changed in _changes(proof):
        with pytest.raises(ConsentError):
            verify_proof(canonical(changed))


def test_nobody_who_is_in_can_be_shown_to_be_absent_by_any_leaves() -> None:
    frozen = snapshot(agreeing=NINE)
    whole = [json.loads(prove(frozen, KEY.pseudonym(one))) for one in NINE]
    leaves = sorted((proof["leaves"][0] for proof in whole), key=lambda leaf: leaf["index"])
    for proof in whole:
        for first in range(9):
            for chosen in ([first], [first, first + 1], [first, first + 2], [first + 1, first], [first, first]):
                forged = {**proof, "cells": None, "leaves": [leaves[index % 9] for index in chosen]}
                with pytest.raises(ConsentError, match="does not hold"):
                    verify_proof(canonical(forged))


def test_a_proof_tells_no_other_pseudonym() -> None:
    frozen = snapshot(event("ann"), agreeing=NINE)
    for person in ("nobody", "ann"):
        text = prove(frozen, KEY.pseudonym(person)).decode()
        assert all(KEY.pseudonym(name) not in text for name in NINE)
