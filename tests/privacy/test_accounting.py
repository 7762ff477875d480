"""Reference tables of ε, and the laws that every ε keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from dp_accounting import NeighboringRelation, dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from dp_train.errors import PlanError
from dp_train.privacy import accounting
from dp_train.privacy.plan import PrivacyPlan, Unit, warn_if_delta_large


def plan(**fields: Any) -> PrivacyPlan:
    defaults: dict[str, Any] = {"sample_rate": 0.02, "expected_units": 64, "steps": 100, "delta": 1e-6}
    return PrivacyPlan(**(defaults | fields))


def cross_check(one: PrivacyPlan) -> Mapping[str, float]:
    return accounting.cross_check([one.event()], one.neighboring_relation, one.delta)


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "delta", "pld", "rdp"),
    [
        (1.0, 0.01, 1000, 1e-5, 1.828, 2.101),
        (0.5, 0.005, 3000, 1e-6, 13.705, 15.56),
        (2.0, 0.1, 2000, 1e-6, 13.806, 14.70),
        (8.0, 0.5, 500, 1e-7, 7.898, 8.36),
    ],
)
def test_single_owner_table(sigma: float, rate: float, steps: int, delta: float, pld: float, rdp: float) -> None:
    values = cross_check(plan(noise_multiplier=sigma, sample_rate=rate, steps=steps, delta=delta))
    assert values["pld"] == pytest.approx(pld, abs=6e-4)
    # The table's RDP is Opacus', over other orders: the same to two per mille, and never below PLD.
    assert values["rdp"] == pytest.approx(rdp, rel=2e-3)
    assert values["rdp"] >= values["pld"]


@pytest.mark.parametrize(
    ("k", "sigma", "rate", "per_example", "bounded"),
    [
        (1, 1.0, 0.0512, 11.29, 11.29),
        (4, 1.0, 0.0128, 2.39, 11.92),
        (4, 2.0, 0.0256, 1.75, 8.66),
        (8, 2.0, 0.0128, 0.82, 8.69),
    ],
)
def test_several_owners_table(k: int, sigma: float, rate: float, per_example: float, bounded: float) -> None:
    shared = plan(noise_multiplier=sigma, sample_rate=rate, steps=1000, delta=1e-5, max_contributions=k)
    assert shared.epsilon() == pytest.approx(bounded, abs=6e-3)
    assert shared.replace(unit=Unit.EXAMPLE).epsilon() == pytest.approx(per_example, abs=6e-3)


def test_people_who_own_their_rows_alone_pay_for_one_unit_whatever_their_rows() -> None:
    assert plan(noise_multiplier=1.0, rows_per_unit=8).epsilon() == plan(noise_multiplier=1.0).epsilon()


@pytest.mark.parametrize(("target", "sigma"), [(0.5, 3.35), (1.0, 1.98), (2.0, 1.28), (4.0, 0.905), (8.0, 0.665)])
def test_samsum_noise_is_that_of_its_updates_and_not_of_its_microbatches(target: float, sigma: float) -> None:
    samsum = plan(sample_rate=1024 / 14_732, steps=43, delta=2e-5).calibrate(epsilon=target)
    assert samsum.calibrated_noise_multiplier == pytest.approx(sigma, rel=3e-3)
    assert target * (1 - 2e-3) <= samsum.epsilon() <= target


def test_samsum_notebook_spends_a_tenth_of_what_it_says() -> None:
    assert plan(sample_rate=1024 / 14_732, steps=43, delta=2e-5, noise_multiplier=3.907).epsilon() == pytest.approx(
        0.41, abs=0.01
    )


CAPPED: dict[str, Any] = {"sample_rate": 0.05, "steps": 1000, "delta": 1e-5, "noise_multiplier": 1.0}


def test_a_cap_costs_next_to_nothing_at_four_deviations_and_much_at_the_mean() -> None:
    free = plan(**CAPPED)
    wide, tight = (free.replace(max_batch_units=cap, population=10_000) for cap in (588, 500))
    assert free.epsilon() == pytest.approx(10.99, abs=0.005)
    assert wide.epsilon() == pytest.approx(11.00, abs=0.015)
    assert tight.epsilon() == pytest.approx(48.9, abs=0.05)


@pytest.mark.parametrize("cap", [500, 520, 588])
def test_fewer_people_than_were_declared_never_spend_more_under_a_cap(cap: int) -> None:
    declared = plan(**CAPPED | {"steps": 10}, max_batch_units=cap, population=10_000)
    spent = [declared.replace(population=people).epsilon(intervals=(1e-3,)) for people in (9_000, 9_900, 9_999, 10_000)]
    assert spent == sorted(spent)


def test_a_noisy_training_curve_is_a_part_of_the_plan_and_costs_what_both_releases_cost_at_once() -> None:
    alone = plan(noise_multiplier=1.0)
    with_curve = alone.replace(loss_noise_ratio=3.0)
    assert with_curve.epsilon() == alone.replace(noise_multiplier=1 / math.sqrt(1 + 1 / 9)).epsilon()
    assert alone.epsilon() < with_curve.epsilon()
    calibrated = plan(loss_noise_ratio=10.0).calibrate(epsilon=2.0)
    assert 1.99 < calibrated.epsilon() <= 2.0
    assert calibrated.calibrated_noise_multiplier == pytest.approx(
        plan().calibrate(epsilon=2.0).calibrated_noise_multiplier * math.sqrt(1.01), rel=2e-3
    )
    assert calibrated.epsilon_schedule([100])[0] == calibrated.epsilon()


def test_without_sampling_it_is_the_gaussian_mechanism() -> None:
    # Exact δ(ε) of the Gaussian mechanism: Balle and Wang 2018 (arXiv 1805.06530), equation 6.
    full = plan(sample_rate=1.0, steps=25, noise_multiplier=10.0)
    spent, mean = full.epsilon(), math.sqrt(25) / 10.0
    delta = norm.cdf(mean / 2 - spent / mean) - math.exp(spent) * norm.cdf(-mean / 2 - spent / mean)
    assert delta == pytest.approx(full.delta, rel=2e-3)


def test_a_mixture_of_one_is_the_sampled_gaussian() -> None:
    one = plan(noise_multiplier=1.5)
    mixture = dp_event.MixtureOfGaussiansDpEvent(1.5, [0.0, 1.0], [1 - one.sample_rate, one.sample_rate])
    accountant = PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, value_discretization_interval=1e-3)
    accountant.compose(dp_event.SelfComposedDpEvent(mixture, one.steps))
    assert accountant.get_epsilon(one.delta) == pytest.approx(one.epsilon(intervals=(1e-3,)), rel=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_the_event_alone_gives_the_epsilon(k: int) -> None:
    one = plan(noise_multiplier=3.0, max_contributions=k)
    relation = NeighboringRelation[one.neighboring_relation.name]
    interval = {1: 1e-4, 3: 1e-3}[k]
    accountant = PLDAccountant(relation, value_discretization_interval=interval).compose(one.event())
    assert accountant.get_epsilon(one.delta) == pytest.approx(one.epsilon(), rel=1e-9)
    assert one.event().count == one.steps
    assert one.event(7).count == 7


def test_mixture_weights_are_the_binomial_and_sum_to_one() -> None:
    mixture = plan(noise_multiplier=1.0, max_contributions=3, sample_rate=0.5).event().event
    assert mixture.sensitivities == [0.0, 1.0, 2.0, 3.0]
    assert mixture.sampling_probs == pytest.approx([0.125, 0.375, 0.375, 0.125])


def test_without_sampling_sharing_k_examples_divides_the_noise_by_k() -> None:
    shared = plan(noise_multiplier=30.0, max_contributions=3, sample_rate=1.0)
    assert shared.epsilon() == pytest.approx(plan(noise_multiplier=10.0, sample_rate=1.0).epsilon(), rel=1e-3)
    assert shared.epsilon_schedule([50])[0] == shared.epsilon(steps=50)


def test_no_steps_spend_nothing() -> None:
    assert plan(noise_multiplier=1.0).epsilon(steps=0) == 0
    assert isinstance(plan(noise_multiplier=1.0).event(0), dp_event.NoOpDpEvent)


def test_no_noise_spends_everything() -> None:
    for bare in (plan(noise_multiplier=0.0), plan().without_privacy()):
        assert bare.epsilon() == math.inf
        assert bare.epsilon(steps=0) == 0
        assert cross_check(bare) == {"pld": math.inf, "rdp": math.inf}
        assert bare.epsilon_schedule([0, 1]) == (0.0, math.inf)
        assert bare.delta_curve([1e-5]) == (math.inf,)
        assert isinstance(bare.event(), dp_event.NonPrivateDpEvent)


def test_noise_that_was_not_set_has_no_epsilon() -> None:
    with pytest.raises(PlanError, match="noise_multiplier is not set"):
        plan().epsilon()


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(PlanError, match="steps=-1"):
        plan(noise_multiplier=1.0).epsilon(steps=-1)


@pytest.mark.parametrize(
    "fields",
    [
        {"noise_multiplier": 0.03, "sample_rate": 0.5},
        {"noise_multiplier": 1e-3},
        {"noise_multiplier": 0.3, "sample_rate": 0.001, "steps": 100_000, "max_contributions": 3},
    ],
)
def test_hardly_any_noise_is_an_epsilon_of_no_meaning_and_no_error(fields: dict[str, Any]) -> None:
    assert plan(**fields).epsilon() > 1000


@pytest.mark.parametrize("k", [1, 3])
def test_people_who_are_hardly_ever_drawn_spend_nothing(k: int) -> None:
    rare = plan(sample_rate=5e-324, noise_multiplier=10.0, max_contributions=k)
    assert rare.epsilon() == 0
    assert rare.epsilon_schedule([50, 100]) == (0.0, 0.0)


def test_the_shortcut_for_rare_people_ends_where_delta_does() -> None:
    edge = plan(sample_rate=1e-8, steps=100, noise_multiplier=0.5)
    assert edge.epsilon() == 0 < edge.epsilon(steps=200)


def test_a_mixture_too_rare_for_the_accountant_is_refused_and_not_underpaid() -> None:
    rare = plan(sample_rate=1e-8, steps=1000, noise_multiplier=0.5, max_contributions=2)
    with pytest.raises(PlanError, match="accountant of mixtures is not exact; raise sample_rate"):
        rare.epsilon()


@pytest.mark.parametrize("rate", [0.1, 0.002])
def test_one_step_of_a_mixture_agrees_with_quadrature(rate: float) -> None:
    shared = plan(sample_rate=rate, steps=1, delta=1e-5, noise_multiplier=2.0, max_contributions=3)
    spent = shared.epsilon()
    outcomes = np.linspace(-24, 27, 400_001)
    weights = binom.pmf(range(4), 3, rate)
    present = sum(weight * norm.pdf(outcomes, units, 2.0) for units, weight in enumerate(weights))
    absent = norm.pdf(outcomes, 0, 2.0)
    delta = max(
        np.maximum(one - math.exp(spent) * other, 0).sum() * (outcomes[1] - outcomes[0])
        for one, other in ((present, absent), (absent, present))
    )
    assert delta == pytest.approx(shared.delta, rel=0.05)


def test_much_noise_over_many_steps_is_not_overcharged() -> None:
    # An interval of 1e-4 alone would say 0.0433: it is longer than what one step loses.
    many = plan(noise_multiplier=50.0, sample_rate=0.001, steps=100_000)
    assert many.epsilon() < 0.021
    assert many.epsilon(intervals=(1e-4, 1e-5)) == many.epsilon(intervals=(1e-5,)) < many.epsilon(intervals=(1e-4,))


@settings(deadline=None, max_examples=8)
@given(sigma=st.floats(0.8, 20), rate=st.floats(0.001, 0.5), steps=st.integers(1, 300), more=st.floats(1.05, 2))
def test_more_noise_costs_less_and_more_of_anything_else_costs_more(
    sigma: float, rate: float, steps: int, more: float
) -> None:
    def spent(**fields: Any) -> float:
        one = plan(**({"noise_multiplier": sigma, "sample_rate": rate, "steps": steps} | fields))
        return one.epsilon(intervals=(1e-3,))

    here = spent()
    slack = 1e-9 + 1e-6 * here
    assert spent(noise_multiplier=sigma * more) <= here + slack
    assert spent(sample_rate=min(rate * more, 1.0)) >= here - slack
    assert spent(steps=steps + 10) >= here - slack
    assert spent(delta=1e-7) >= here - slack


@pytest.mark.parametrize("k", [1, 2])
def test_the_schedule_bounds_every_step_from_above_and_ends_at_the_epsilon(k: int) -> None:
    one = plan(noise_multiplier=4.0 * k, sample_rate=0.1, max_contributions=k)
    steps = [0, 1, 20, 55, 100]
    curve = one.epsilon_schedule(steps)
    assert curve[0] == 0
    assert curve[-1] == one.epsilon()
    assert list(curve) == sorted(curve)
    for step, spent in zip(steps[1:], curve[1:], strict=True):
        exact = one.epsilon(steps=step)
        assert exact * (1 - 1e-6) <= spent <= exact * 1.06 + 2e-3


def test_the_schedule_keeps_the_order_it_was_asked_in() -> None:
    one = plan(noise_multiplier=1.0)
    forward = one.epsilon_schedule([5, 50, 100])
    assert one.epsilon_schedule([100, 5, 50, 5]) == (forward[2], forward[0], forward[1], forward[0])
    assert one.epsilon_schedule([]) == ()


def test_the_curve_over_delta_falls_and_meets_the_epsilon() -> None:
    one = plan(noise_multiplier=1.0)
    curve = one.delta_curve([1e-8, one.delta, 1e-4])
    assert curve[0] > curve[1] > curve[2]
    assert curve[1] == one.epsilon()
    with pytest.raises(PlanError, match="out of range"):
        one.delta_curve([1e-12])


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({}, 1.0),
        ({"sample_rate": 1.0}, 8.0),
        ({"steps": 1, "sample_rate": 0.5}, 3.0),
        ({"sample_rate": 0.001, "steps": 10_000}, 0.1),
        ({}, 0.01),
        ({}, 60.0),
        ({"max_contributions": 3}, 1.0),
    ],
)
def test_calibrated_noise_is_enough_and_a_little_less_is_not(fields: dict[str, Any], target: float) -> None:
    calibrated = plan(**fields).calibrate(epsilon=target)
    assert calibrated.epsilon() <= target
    assert calibrated.replace(noise_multiplier=calibrated.calibrated_noise_multiplier * 0.998).epsilon() > target
    assert calibrated.calibrated_noise_multiplier == float(f"{calibrated.calibrated_noise_multiplier:.6g}")
    assert calibrated.replace(noise_multiplier=None) == plan(**fields)


def test_calibration_forgets_the_noise_that_was_there() -> None:
    assert plan(noise_multiplier=9.0).calibrate(epsilon=2.0) == plan().calibrate(epsilon=2.0)


def test_a_target_beyond_reason_gets_the_least_noise_there_is() -> None:
    assert plan(steps=1).calibrate(epsilon=1e6).calibrated_noise_multiplier == 0.1


def test_an_impossible_target_names_the_remedy() -> None:
    with pytest.raises(PlanError, match=r"ε=0\.0001 would need noise_multiplier > 100000; lower steps or sample_rate"):
        plan(sample_rate=1.0, steps=1_000_000).calibrate(epsilon=1e-4)


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_a_target_that_is_no_epsilon_is_refused(target: float) -> None:
    with pytest.raises(PlanError, match="expected a number > 0"):
        plan().calibrate(epsilon=target)


def test_the_baseline_cannot_be_calibrated() -> None:
    with pytest.raises(PlanError, match="clip_norm=inf"):
        plan().without_privacy().calibrate(epsilon=1.0)


def test_rejected_orders_of_the_renyi_accountant_stay_off_the_log(caplog: pytest.LogCaptureFixture) -> None:
    cross_check(plan(noise_multiplier=8.0, sample_rate=0.5))
    assert not caplog.records


def test_delta_is_large_when_one_unit_of_the_population_fits_in_it() -> None:
    assert warn_if_delta_large(plan(delta=1e-3), 1000)
    assert not warn_if_delta_large(plan(delta=1e-3), 999)
    assert not warn_if_delta_large(plan(), 0)
