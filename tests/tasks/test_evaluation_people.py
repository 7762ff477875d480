"""Whose texts are scored: many people, no few of them most of it, and none on whom settings were chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from dp_train.conversations import Example
from dp_train.tasks.evaluation_people import sample_over_people, set_apart

PEOPLE = [f"p{number}" for number in range(12)]
GROUPS = st.lists(st.frozensets(st.sampled_from(PEOPLE), min_size=1, max_size=4), max_size=40)
ALONE = st.lists(st.sampled_from(PEOPLE).map(lambda person: frozenset({person})), max_size=60)


def examples_of(owners: Sequence[frozenset[str]]) -> list[Example]:
    return [
        Example(example_id=f"e{number:03}", prompt="", target="words", owners=some)
        for number, some in enumerate(owners)
    ]


@given(owners=GROUPS, most=st.integers(1, 30), cap=st.integers(1, 4), seed=st.integers(0, 5))
def test_a_sample_keeps_to_both_bounds_and_is_the_start_of_a_larger_one(
    owners: list[frozenset[str]], most: int, cap: int, seed: int
) -> None:
    examples = examples_of(owners)
    sample = sample_over_people(examples, most=most, per_person=cap, seed=seed)
    assert len(sample) <= most
    assert len(set(sample)) == len(sample)
    assert max(Counter(person for one in sample for person in one.owners).values(), default=0) <= cap
    assert sample_over_people(examples, most=most + 5, per_person=cap, seed=seed)[: len(sample)] == sample
    assert sample_over_people(examples[::-1], most=most, per_person=cap, seed=seed) == sample


@given(owners=ALONE, most=st.integers(1, 30), seed=st.integers(0, 5))
def test_a_sample_of_people_who_write_alone_is_of_as_many_people_as_it_can_be(
    owners: list[frozenset[str]], most: int, seed: int
) -> None:
    sample = sample_over_people(examples_of(owners), most=most, per_person=9, seed=seed)
    assert len({person for one in sample for person in one.owners}) == min(most, len(set(owners)))


def test_who_wrote_most_is_not_most_of_the_score() -> None:
    owners = [frozenset({"p0"})] * 500 + [frozenset({person}) for person in PEOPLE[1:] * 2]
    sample = sample_over_people(examples_of(owners), most=40, per_person=4, seed=0)
    assert Counter(person for one in sample for person in one.owners)["p0"] == 4


@given(owners=GROUPS, share=st.floats(0.05, 0.5), seed=st.integers(0, 5))
def test_who_chose_settings_is_not_reported(owners: list[frozenset[str]], share: float, seed: int) -> None:
    examples = examples_of(owners)
    apart = set_apart(examples, share=share, seed=seed)
    tuning, reported = ({p for one in some for p in one.owners} for some in (apart.tuning, apart.reported))
    assert tuning.isdisjoint(reported)
    assert len(tuning) <= share * len({person for some in owners for person in some})
    assert 2 * len(apart.reported) >= len(examples)
    again = set_apart(examples[::-1], share=share, seed=seed)
    assert again.reported == apart.reported[::-1]


def test_people_are_chosen_whatever_they_wrote() -> None:
    owners = [frozenset({person}) for person in PEOPLE]
    one, other = examples_of(owners), [*examples_of(owners * 7)]
    assert {e.owners for e in set_apart(one, share=0.3, seed=1).tuning} == {
        e.owners for e in set_apart(other, share=0.3, seed=1).tuning
    }
