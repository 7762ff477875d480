"""Bounded contributions: nobody owns more than k, and nothing that was said decides who is kept."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.conversations import Example
from dp_train.errors import DataError, PlanError
from dp_train.privacy.contribution_bounding import bounded_contributions, in_public_order, rows_by_owner

graphs = st.lists(st.frozensets(st.sampled_from("abcdefgh"), min_size=1, max_size=5), max_size=30)


def examples(graph: list[frozenset[str]], text: str = "words") -> list[Example]:
    return [
        Example(example_id=f"e{index:03d}", prompt=text, target=text, owners=owners)
        for index, owners in enumerate(graph)
    ]


def ids(selected: list[Example]) -> list[str]:
    return [example.example_id for example in selected]


@given(graph=graphs, k=st.integers(1, 4))
def test_nobody_owns_more_than_k(graph: list[frozenset[str]], k: int) -> None:
    owned = Counter(
        person for example in bounded_contributions(examples(graph), k).examples for person in example.owners
    )
    assert max(owned.values(), default=0) <= k


@given(graph=graphs, k=st.integers(1, 4))
def test_no_example_could_be_added(graph: list[frozenset[str]], k: int) -> None:
    kept = bounded_contributions(examples(graph), k).examples
    owned = Counter(person for example in kept for person in example.owners)
    left = {example.example_id for example in examples(graph)} - set(ids(kept))
    for example in examples(graph):
        if example.example_id in left:
            assert any(owned[person] == k for person in example.owners)


@given(graph=graphs, k=st.integers(1, 4), seed=st.integers(0, 1000))
def test_neither_words_nor_arrival_decide(graph: list[frozenset[str]], k: int, seed: int) -> None:
    shuffled = examples(graph, text="something else")
    random.Random(seed).shuffle(shuffled)
    assert ids(bounded_contributions(shuffled, k).examples) == ids(bounded_contributions(examples(graph), k).examples)


def test_fewest_owners_come_first_and_ties_go_by_id() -> None:
    graph = [frozenset("abc"), frozenset("ab"), frozenset("bc"), frozenset("d")]
    assert ids(bounded_contributions(examples(graph), 1).examples) == ["e001", "e003"]
    assert ids(bounded_contributions(examples(graph), 2).examples) == ["e001", "e002", "e003"]


def test_a_repeated_id_is_refused() -> None:
    twice = examples([frozenset("a")]) * 2
    for select in (in_public_order, lambda rows: bounded_contributions(rows, 1), lambda rows: rows_by_owner(rows, 1)):
        with pytest.raises(DataError, match="e000 occurs twice"):
            select(twice)


def test_bounds_below_one_are_refused() -> None:
    with pytest.raises(PlanError, match="max_contributions=0"):
        bounded_contributions([], 0)
    with pytest.raises(PlanError, match="rows_per_unit=0"):
        rows_by_owner([], 0)


@given(owners=st.lists(st.sampled_from("abcd"), max_size=30), rows=st.integers(1, 5), seed=st.integers(0, 1000))
def test_each_person_gives_the_same_first_rows_whatever_the_arrival(owners: list[str], rows: int, seed: int) -> None:
    single = examples([frozenset(owner) for owner in owners])
    shuffled = single.copy()
    random.Random(seed).shuffle(shuffled)
    units = rows_by_owner(shuffled, rows)
    assert units == rows_by_owner(single, rows)
    assert [unit[0].owners for unit in units] == [frozenset(owner) for owner in sorted(set(owners))]
    for unit in units:
        (owner,) = unit[0].owners
        assert all(example.owners == {owner} for example in unit)
        assert len(unit) == min(rows, owners.count(owner))


def test_rows_are_not_chosen_by_age() -> None:
    many = examples([frozenset("a")] * 100)
    (unit,) = rows_by_owner(many, 50)
    assert 10 < sum(example.example_id < "e050" for example in unit) < 40


def test_more_rows_keep_the_ones_there_were() -> None:
    many = examples([frozenset("a")] * 20)
    assert rows_by_owner(many, 8)[0][:3] == rows_by_owner(many, 3)[0]
