"""Every unit once an epoch: what a unit can do to the whole run, and what that spends."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from dp_train.errors import PlanError
from dp_train.privacy.correlation import strategy, strategy_coefficients
from dp_train.privacy.draw_check import planned_draw
from dp_train.privacy.mechanisms.epochs import Epochs, sensitivity
from dp_train.privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(sample_rate=0.05, expected_units=64, steps=40, delta=1e-5, noise_multiplier=1.2, epoch_steps=20)
SEED = bytes(range(32))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """ε of one Gaussian release of sensitivity μ in units of its noise (Balle & Wang 2018, arXiv 1805.06530)."""

    def spent(epsilon: float) -> float:
        above = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
        return float(above) - delta

    return float(brentq(spent, 0, 200))


@settings(max_examples=60)
@given(bands=st.integers(1, 12), steps=st.integers(1, 30), epoch=st.integers(1, 12), data=st.data())
def test_no_unit_moves_the_run_further_than_the_sensitivity_and_one_moves_it_so_far(
    bands: int, steps: int, epoch: int, data: st.DataObject
) -> None:
    bands, rows = min(bands, steps), data.draw(st.integers(1, steps))
    matrix = strategy(strategy_coefficients(bands), steps)[:rows, :rows]
    limit = sensitivity(bands, steps, epoch, rows)
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    furthest = 0.0
    for group in range(min(epoch, rows)):
        columns = matrix[:, group::epoch]
        for added in (random.standard_normal((columns.shape[1], 4)), np.ones((columns.shape[1], 1))):
            added /= np.linalg.norm(added, axis=1, keepdims=True)  # a clipped gradient a turn
            moved = float(np.linalg.norm(columns @ added))
            assert moved <= limit
            furthest = max(furthest, moved)
    assert furthest == pytest.approx(limit)


@pytest.mark.parametrize("bands", [1, 4, 20])
def test_turns_that_share_no_row_add_up_as_separate_releases(bands: int) -> None:
    assert sensitivity(bands, 40, 20, 40) == pytest.approx(math.sqrt(2))
    assert sensitivity(bands, 41, 20, 41) == pytest.approx(math.sqrt(3))
    assert sensitivity(bands, 15, 20, 15) == pytest.approx(1)


def test_more_bands_than_an_epoch_has_steps_cost_more() -> None:
    assert sensitivity(30, 40, 10, 40) > 1.2 * sensitivity(10, 40, 10, 40)


@pytest.mark.parametrize(
    ("changes", "mu"),
    [({}, math.sqrt(2) / 1.2), ({"bands": 20}, math.sqrt(2) / 1.2), ({"steps": 20, "noise_multiplier": 0.7}, 1 / 0.7)],
)
def test_the_epsilon_is_that_of_one_gaussian_release(changes: dict[str, float], mu: float) -> None:
    plan = PLAN.replace(**changes)
    exact = gaussian_epsilon(mu, plan.delta)
    assert exact <= plan.epsilon() <= exact + 2e-3


@pytest.mark.parametrize(("sigma", "epsilon"), [(4.0, 0.92634), (2.0, 1.99309), (1.0, 4.37718), (0.5, 9.99726)])
def test_an_epoch_spends_what_quadrature_of_two_normal_laws_gives(sigma: float, epsilon: float) -> None:
    # mpmath, 30 digits: ∫ max(0, p − e^ε q) = 1e-5 for p = N(1 ÷ σ, 1), q = N(0, 1)
    plan = PLAN.replace(steps=20, noise_multiplier=sigma, bands=20)
    assert plan.epsilon() == pytest.approx(epsilon, abs=2e-3)


def test_whole_epochs_by_turns_of_as_many_bands_are_the_banded_mechanism_at_rate_1() -> None:
    banded = PLAN.replace(epoch_steps=None, bands=20)
    assert PLAN.replace(bands=20).epsilon() == pytest.approx(banded.epsilon(), abs=2e-3)


def test_what_a_run_spends_never_falls_with_its_steps() -> None:
    spent = PLAN.replace(bands=30).epsilon_schedule([1, 10, 20, 21, 30, 40])
    assert all(earlier <= later + 1e-9 for earlier, later in pairwise(spent))
    assert spent[-1] == PLAN.replace(bands=30).epsilon()


def test_calibration_spends_what_was_asked() -> None:
    for bands in (1, 20, 30):
        assert 7.98 <= PLAN.replace(noise_multiplier=None, bands=bands).calibrate(epsilon=8.0).epsilon() <= 8.0


def test_everyone_enters_once_an_epoch_and_the_draw_that_shares_no_code_agrees() -> None:
    sampler = PLAN.mechanism.sampler
    for epoch in (0, 1):
        drawn = [sampler.draw(20 * epoch + step, 300, SEED) for step in range(20)]
        assert sorted(np.concatenate(drawn).tolist()) == list(range(300))
        assert all(planned_draw(PLAN, step, 300, SEED) == frozenset(draw.tolist()) for step, draw in enumerate(drawn))


def test_a_unit_more_moves_no_other_to_another_step() -> None:
    sampler = PLAN.mechanism.sampler
    for step in range(20):
        larger = sampler.draw(step, 301, SEED).tolist()
        assert [unit for unit in larger if unit < 300] == sampler.draw(step, 300, SEED).tolist()


def test_a_step_that_leaves_one_out_or_takes_another_group_is_no_turn() -> None:
    mechanism = PLAN.mechanism
    honest = [(len(mechanism.sampler.draw(step, 300, SEED)), *mechanism.observe(step, 300, SEED)) for step in range(40)]
    fewer = [(units - (step == 7), *rest) for step, (units, *rest) in enumerate(honest)]
    assert mechanism.violations(fewer, 300) == ["a step was not the turn of one of epoch_steps=20 groups, whole"]
    swapped = [*honest[:23], honest[24], honest[23], *honest[25:]]  # groups of 19 and of 18
    assert mechanism.violations(swapped, 300)
    assert mechanism.violations(honest, 301)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sample_rate": 0.1}, "1 ÷ epoch_steps=20"),
        ({"epoch_steps": 0}, "at least 1"),
        ({"bands": 41}, "expected 1 to steps=40"),
        ({"max_contributions": 2}, "expected one of them"),
        ({"max_batch_units": 80, "population": 1280}, "expected one of them"),
    ],
)
def test_what_has_no_event_is_refused_in_one_line(changes: dict[str, float], expected: str) -> None:
    with pytest.raises(PlanError, match=expected) as refused:
        PLAN.replace(**changes)
    assert "\n" not in str(refused.value)


def test_a_plan_without_epochs_has_the_digest_that_it_always_had() -> None:
    assert "epoch_steps" not in PLAN.replace(epoch_steps=None).describe()
    assert PLAN.describe()["epoch_steps"] == 20
    before = PrivacyPlan(sample_rate=0.5, expected_units=1, steps=1, delta=0.01)
    assert before.digest == "a41d61ab6df1bfa8980a051c2b00ea62efc0a2da2be9915fe1d4670caf30004c"


def test_at_the_same_noise_the_curve_of_losses_is_a_column_more() -> None:
    assert PLAN.replace(loss_noise_ratio=1.0).epsilon() == pytest.approx(
        PLAN.replace(noise_multiplier=1.2 / math.sqrt(2)).epsilon()
    )
    assert isinstance(PLAN.mechanism, Epochs)
