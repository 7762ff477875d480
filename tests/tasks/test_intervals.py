"""How sure a score is depends on how many people it was taken on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.errors import DataError
from dp_train.tasks.intervals import interval_over_people


def owner(number: int) -> frozenset[str]:
    return frozenset({f"person-{number}"})


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5)), min_size=1, max_size=30))
def test_an_interval_lies_between_the_extremes_of_people(values: list[tuple[float, int]]) -> None:
    scores = [score for score, _ in values]
    found = interval_over_people(scores, [1.0] * len(scores), [owner(who) for _, who in values])
    assert min(scores) - 1e-9 <= found.low <= found.high <= max(scores) + 1e-9
    assert found.groups == len({who for _, who in values})


def test_an_interval_of_one_person_is_no_wider_than_a_point_and_says_so() -> None:
    found = interval_over_people([1.0, 3.0], [1.0, 1.0], [owner(0), owner(0)])
    assert (found.low, found.high, found.groups) == (2.0, 2.0, 1)


def test_many_messages_of_few_people_are_less_sure_than_of_many() -> None:
    rng = np.random.default_rng(1)
    of_person = rng.normal(size=4).repeat(50)
    few = interval_over_people(of_person.tolist(), [1.0] * 200, [owner(number // 50) for number in range(200)])
    many = interval_over_people(of_person.tolist(), [1.0] * 200, [owner(number) for number in range(200)])
    assert few.high - few.low > 2 * (many.high - many.low)


def test_about_95_of_100_intervals_hold_the_true_mean() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        values = rng.normal(size=60)
        found = interval_over_people(values.tolist(), [1.0] * 60, [owner(number) for number in range(60)])
        held += found.low <= 0 <= found.high
    assert 176 <= held <= 199


def test_a_score_is_taken_of_the_ratio() -> None:
    found = interval_over_people([2.0, 2.0], [1.0, 1.0], [owner(0), owner(1)], score=math.exp)
    assert found.low == pytest.approx(math.exp(2))


def test_no_example_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one example"):
        interval_over_people([], [], [])
