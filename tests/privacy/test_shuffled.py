"""Shuffled passes take every unit once, and have no ε."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.errors import PlanError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.sampling import ShuffledSampler

SEED = bytes(range(32))


@given(num_units=st.integers(0, 200), size=st.integers(1, 40), this_pass=st.integers(0, 3))
def test_a_pass_takes_each_unit_at_most_once_and_leaves_less_than_a_batch(
    num_units: int, size: int, this_pass: int
) -> None:
    sampler, steps = ShuffledSampler(size), max(1, num_units // size)
    drawn = [sampler.draw(this_pass * steps + step, num_units, SEED) for step in range(steps)]
    assert all((np.diff(draw) > 0).all() for draw in drawn)
    taken = np.concatenate(drawn)
    assert len(set(taken.tolist())) == len(taken) > num_units - size if num_units else len(taken) == 0
    assert all(len(draw) == min(size, num_units) for draw in drawn)


def test_passes_differ_and_a_draw_is_a_function_of_its_step() -> None:
    sampler = ShuffledSampler(5)
    first, second = (sampler.draw(step, 50, SEED).tolist() for step in (0, 10))
    assert first != second
    assert sampler.draw(0, 50, SEED).tolist() == first
    assert sampler.draw(0, 50, SEED[::-1]).tolist() != first


def test_nothing_with_an_epsilon_is_shuffled() -> None:
    plan = PrivacyPlan(sample_rate=0.1, expected_units=8, steps=10, delta=1e-5)
    for sigma in (None, 1.0):
        with pytest.raises(PlanError, match="shuffled=True; expected False"):
            plan.replace(noise_multiplier=sigma, shuffled=True)
    open_plan = plan.without_privacy(shuffled=True)
    assert open_plan.mechanism.sampler.name == "shuffled"
    with pytest.raises(PlanError, match="no event"):
        open_plan.mechanism.event(1)
    assert math.isinf(open_plan.clip_norm)


def test_a_plan_that_is_not_shuffled_has_the_digest_that_it_always_had() -> None:
    plan = PrivacyPlan(sample_rate=0.1, expected_units=8, steps=10, delta=1e-5)
    assert "shuffled" not in plan.describe()
    assert plan.without_privacy().digest != plan.without_privacy(shuffled=True).digest
