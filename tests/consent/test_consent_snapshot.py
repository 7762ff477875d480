"""The frozen snapshot and its Merkle root."""

import copy
import dataclasses
import hashlib
import pickle
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import AS_OF, CHAT, COMPANY, COMPOSE, KEY, ORG, SUMMARY, day, event, registry, snapshot

from dp_train.consent.decisions import Reason
from dp_train.consent.events import AgeBand, EntityRole, EventState
from dp_train.consent.merkle import merkle_root
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.errors import ConsentError


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _rfc6962(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return _leaf(leaves[0])
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return _node(_rfc6962(leaves[:split]), _rfc6962(leaves[split:]))


@given(st.lists(st.binary(max_size=3), max_size=40))
def test_the_root_is_that_of_rfc_6962(leaves: list[bytes]) -> None:
    assert merkle_root(iter(leaves)) == (_rfc6962(leaves), len(leaves))


def test_no_leaf_passes_for_a_node() -> None:
    pair, _ = merkle_root([b"a", b"b"])
    single, _ = merkle_root([_leaf(b"a") + _leaf(b"b")])
    assert pair != single


def test_equal_decisions_have_equal_roots() -> None:
    split = [event("ann", purpose=frozenset({purpose}), record_id=purpose.value) for purpose in event("ann").purpose]
    assert snapshot(*split).root == snapshot(event("ann")).root
    assert snapshot(event("ann", seq=8, record_id="other", evidence_ref="x")).root == snapshot(event("ann")).root
    assert (
        snapshot(event("ann"), event("bob", entity_role=event("ann").entity_role)).root != snapshot(event("ann")).root
    )


def test_an_empty_window_has_one_root_whatever_its_ends() -> None:
    minor = {"age_band": AgeBand.FROM_13_TO_15}
    own = event("ann", when=20, **minor)
    guardians = [event("ann", entity_role=EntityRole.GUARDIAN, data_to=day(end), **minor) for end in (5, 6, 30)]
    empty, other, some = (snapshot(own, guardian).root for guardian in guardians)
    assert empty == other
    assert empty != some


@pytest.mark.parametrize(
    "changed",
    [
        [event("ann"), event("bob"), event("bob", EventState.WITHDRAWN, 1)],
        [event("ann"), event("bob", EventState.REFUSED)],
        [event("ann"), event("bob", data_to=day(70))],
        [event("ann"), event("bob", when=0.5)],
        [event("ann"), event("bob", purpose=frozenset({COMPOSE}))],
        [event("ann"), event("bob", content_kind=frozenset({CHAT}))],
        [event("ann")],
        [event("ann"), event("bob"), event("cy")],
        [event("ann"), event("bob"), event(None, EventState.REFUSED, 1)],
        [event("ann"), event("bob"), event(None, org_id="elsewhere")],
    ],
)
def test_any_changed_decision_changes_the_root(changed: list[Any]) -> None:
    assert snapshot(*changed).root != snapshot(event("ann"), event("bob")).root


def test_the_time_of_the_question_is_not_in_the_root() -> None:
    store = registry([COMPANY, event("ann")])
    assert store.snapshot(as_of=day(90)).root == store.snapshot(as_of=day(91)).root


def test_what_happens_later_does_not_reach_a_snapshot() -> None:
    events = [COMPANY, event("ann")]
    before = registry(events).snapshot(as_of=AS_OF)
    registry([*events, event("ann", EventState.WITHDRAWN, 99)])
    assert before.decide("ann", COMPOSE, CHAT, day(50), ORG).allowed
    assert registry([*events, event("ann", EventState.WITHDRAWN, 99)]).snapshot(as_of=AS_OF).root != before.root


def test_the_person_answers_before_the_organisation() -> None:
    frozen = snapshot(event("ann", EventState.REFUSED), agreeing=["bob"])
    assert frozen.decide("ann", COMPOSE, CHAT, day(50), "elsewhere").reason is Reason.REFUSED
    assert frozen.decide("bob", COMPOSE, CHAT, day(50), "elsewhere").reason is Reason.ORGANISATION_DENIES
    assert frozen.decide("bob", SUMMARY, CHAT, day(50), ORG).allowed


def test_a_snapshot_is_frozen_and_its_root_cannot_be_chosen() -> None:
    frozen = snapshot(agreeing=["ann"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        frozen.as_of = day(1)  # type: ignore[misc]
    for change in ({"root": "00"}, {"as_of": day(900)}, {"_seal": object()}):
        with pytest.raises((TypeError, ValueError, ConsentError)):
            dataclasses.replace(frozen, **change)
    with pytest.raises(ConsentError, match="made by hand"):
        ConsentSnapshot(as_of=AS_OF, known_at=AS_OF, _key=KEY, _people={}, _organisations={}, _seal=None)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_snapshot_holds_the_key_and_cannot_be_copied(duplicate: Any) -> None:
    with pytest.raises(ConsentError, match="holds the key"):
        duplicate(snapshot(agreeing=["ann"]))


def test_a_snapshot_prints_neither_people_nor_key() -> None:
    frozen = snapshot(agreeing=["ann"])
    text = repr(frozen)
    assert frozen.root in text
    assert KEY.pseudonym("ann") not in text
    assert "secret" not in text
    assert "people" not in text


def test_a_person_costs_less_than_four_hundred_bytes() -> None:
    store = registry([COMPANY, *(event(f"person {number}", when=number / 1e4) for number in range(3000))])
    tracemalloc.start()
    frozen = store.snapshot(as_of=AS_OF)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert frozen.decide("person 7", COMPOSE, CHAT, day(50), ORG).allowed
    assert size / 3000 < 400
