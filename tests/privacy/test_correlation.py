"""Correlated noise: what one unit can do to the release, and what that spends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from dp_accounting import dp_event
from hypothesis import given, settings
from hypothesis import strategies as st

from dp_train.privacy.correlation import column_norms, strategy, strategy_coefficients
from dp_train.privacy.mechanisms.banded import Banded
from dp_train.privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(sample_rate=0.03, expected_units=64, steps=40, delta=1e-5, noise_multiplier=1.2, bands=8)


def test_one_band_is_independent_noise() -> None:
    np.testing.assert_array_equal(strategy(strategy_coefficients(1), 7), np.eye(7))


def test_coefficients_are_those_of_the_square_root_of_the_sums() -> None:
    """C · C is the matrix of prefix sums, as far as the bands reach."""
    coefficients = strategy_coefficients(6)
    np.testing.assert_allclose(np.convolve(coefficients, coefficients)[:6], 1.0)


@given(bands=st.integers(1, 12), steps=st.integers(1, 40), start=st.data())
def test_what_a_unit_adds_at_its_turns_adds_up_as_if_the_noise_were_independent(
    bands: int, steps: int, start: st.DataObject
) -> None:
    """Turns are `bands` apart, so their columns are orthonormal: m turns move CG by √m clip norms and not more."""
    turn = start.draw(st.integers(0, min(bands, steps) - 1))
    matrix = strategy(strategy_coefficients(bands), steps)
    columns = matrix[:, turn::bands]
    np.testing.assert_allclose(columns.T @ columns, np.eye(columns.shape[1]), atol=1e-12)
    banded = Banded(sample_rate=1 / bands, noise_multiplier=1.0, bands=bands, steps=max(bands, steps))
    assert columns.shape[1] <= banded.rounds(steps)
    assert not np.triu(matrix, 1).any()
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=0), 1.0)


def test_turns_closer_than_the_bands_would_cost_more() -> None:
    """Why units wait for their turn: neighbouring columns point the same way."""
    matrix = strategy(strategy_coefficients(8), 40)
    assert np.linalg.norm(matrix[:, 5] + matrix[:, 6]) > 1.2 * np.sqrt(2)


def test_sums_over_steps_carry_less_noise() -> None:
    sums = np.tril(np.ones((40, 40)))
    noise = [np.linalg.norm((sums @ np.linalg.inv(strategy(strategy_coefficients(b), 40)))[-1]) for b in (1, 2, 4, 8)]
    assert noise[0] == pytest.approx(np.sqrt(40))
    assert all(later < 0.85 * earlier for earlier, later in pairwise(noise))


def test_the_last_columns_end_with_the_matrix() -> None:
    norms = column_norms(strategy_coefficients(3), 5)
    np.testing.assert_allclose(norms**2, [1 + 0.25 + 0.140625] * 3 + [1.25, 1.0])


def test_the_event_is_a_round_for_every_turn_at_the_rate_within_a_group() -> None:
    step = dp_event.PoissonSampledDpEvent(0.24, dp_event.GaussianDpEvent(1.2))
    assert PLAN.event() == dp_event.SelfComposedDpEvent(step, 5)
    assert PLAN.event(17) == dp_event.SelfComposedDpEvent(step, 3)
    assert PLAN.event(0) == dp_event.NoOpDpEvent()


def test_a_plan_with_bands_spends_what_its_rounds_spend() -> None:
    plain = PLAN.replace(bands=1, sample_rate=0.24, steps=5)
    assert PLAN.event() == plain.event()
    assert PLAN.epsilon() == plain.epsilon()
    assert PLAN.epsilon(steps=9) == plain.epsilon(steps=2)
    assert PLAN.epsilon_schedule([1, 8, 9, 40]) == plain.epsilon_schedule([1, 1, 2, 5])
    assert PLAN.delta_curve([1e-6]) == plain.delta_curve([1e-6])


@settings(max_examples=4, deadline=None)
@given(bands=st.sampled_from([2, 5, 8, 20]), target=st.sampled_from([1.0, 8.0]))
def test_calibration_holds_for_any_number_of_bands(bands: int, target: float) -> None:
    plan = PLAN.replace(bands=bands, noise_multiplier=None).calibrate(epsilon=target)
    assert plan.bands == bands
    assert 0.998 * target <= plan.epsilon() <= target


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_the_size_of_correlated_noise_is_that_of_the_rows_of_the_inverse(bands: int) -> None:
    plan = PrivacyPlan(sample_rate=0.1, expected_units=10, steps=12, delta=1e-5, noise_multiplier=1.0, bands=bands)
    rows = np.linalg.inv(strategy(strategy_coefficients(bands), 12))
    assert [plan.mechanism.noise.variance(step) for step in range(12)] == pytest.approx((rows**2).sum(axis=1).tolist())
