"""As many groups as the bound allows, proved by a bound from above, and from the groups alone."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from dp_train.privacy.matching import greedy_within, most_within

people = st.frozensets(st.integers(0, 7), min_size=1, max_size=5).map(sorted)
graphs = st.lists(people, max_size=25)


def largest(groups: list[list[int]], k: int) -> int:
    """By trying every subset."""
    for size in range(len(groups), 0, -1):
        for some in combinations(groups, size):
            if max(Counter(person for group in some for person in group).values()) <= k:
                return size
    return 0


def linear_bound(groups: list[list[int]], k: int) -> float:
    incidence = np.zeros((1 + max(max(group) for group in groups), len(groups)))
    for column, group in enumerate(groups):
        incidence[group, column] = 1
    return float(-linprog(-np.ones(len(groups)), A_ub=incidence, b_ub=np.full(len(incidence), k), bounds=(0, 1)).fun)


def meetings(count: int, of: int, seed: int) -> list[list[int]]:
    """Random meetings of two and more, some people in many of them."""
    random = np.random.default_rng(seed)
    weights = random.lognormal(size=of)
    sizes = np.minimum(1 + random.geometric(0.4, size=count), 8)
    return [sorted(random.choice(of, size=size, replace=False, p=weights / weights.sum()).tolist()) for size in sizes]


@given(groups=graphs, k=st.integers(1, 4))
def test_nobody_is_in_more_than_k_and_nothing_fits_any_more(groups: list[list[int]], k: int) -> None:
    kept = most_within(groups, k).kept
    uses = Counter(person for index in kept for person in groups[index])
    assert max(uses.values(), default=0) <= k
    for index, group in enumerate(groups):
        assert index in kept or any(uses[person] == k for person in group)


@given(groups=st.lists(people, max_size=9), k=st.integers(1, 3))
def test_the_bound_holds_for_the_best_selection_there_is(groups: list[list[int]], k: int) -> None:
    matching = most_within(groups, k)
    assert len(matching.kept) <= largest(groups, k) <= matching.upper_bound


@given(groups=graphs, k=st.integers(1, 4))
def test_never_fewer_than_greedy(groups: list[list[int]], k: int) -> None:
    found, greedy = most_within(groups, k).kept, greedy_within(groups, k)
    assert len(found) > len(greedy) or found == greedy


@pytest.mark.parametrize("k", [1, 2, 4])
def test_within_two_per_cent_of_the_linear_relaxation_where_greedy_is_ten_below(k: int) -> None:
    groups = meetings(1500, 700, seed=3)
    bound, matching = linear_bound(groups, k), most_within(groups, k)
    assert len(matching.kept) >= 0.98 * bound
    assert bound - 1e-6 <= matching.upper_bound + 1 <= 1.02 * bound + 1
    assert len(greedy_within(groups, k)) < 0.93 * bound


def test_one_gives_way_to_two() -> None:
    # Greedy takes the pair in the middle of a path; its two neighbours are more.
    assert greedy_within([[1, 2], [0, 1], [2, 3]], 1) == (0,)
    assert most_within([[1, 2], [0, 1], [2, 3]], 1).kept == (1, 2)


def test_a_star_with_many_rays_is_not_searched_by_pairs() -> None:
    star = [[0, person] for person in range(1, 20_001)]
    assert most_within(star, 3).kept == (0, 1, 2)


def test_no_groups_keep_nothing() -> None:
    assert most_within([], 1).kept == ()
    assert most_within([], 1).upper_bound == 0
