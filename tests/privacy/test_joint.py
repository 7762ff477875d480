"""The ε of all that was looked at: composed, or none; never less than that of one of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp_train.errors import PlanError
from dp_train.privacy.accounting import price
from dp_train.privacy.events import event_json
from dp_train.privacy.joint import JointClaim, Spent, as_one_event, joint_claim
from dp_train.privacy.plan import PrivacyPlan, Unit

PLAN = PrivacyPlan(sample_rate=0.01, expected_units=64, steps=1000, delta=1e-5, noise_multiplier=1.0)


def spent(plan: PrivacyPlan = PLAN, steps: int | None = 1000, **facts: Any) -> Spent:
    return Spent.of(plan, steps, **facts)


def test_runs_with_coins_of_their_own_compose() -> None:
    found = joint_claim([spent()] * 5)
    assert found.epsilon == pytest.approx(4.20, abs=0.01)
    assert (found.runs, found.delta, found.unit) == (5, 1e-5, Unit.USER)
    assert "5 runs together: ε=4.2" in found.describe()


def test_runs_that_share_the_coins_of_one_seed_have_no_joint_epsilon_for_composition_would_say_too_little() -> None:
    shared = joint_claim([spent(coins="seed 0")] * 5)
    assert shared.epsilon is None
    assert "coins of one chosen seed" in shared.describe()
    assert joint_claim([spent(coins="seed 0"), spent(coins="seed 1"), spent()]).epsilon is not None
    true = price([as_one_event(PLAN.event(), 5)], PLAN.neighboring_relation, PLAN.delta).epsilon
    assert true == pytest.approx(19.2, abs=0.05)
    assert price([as_one_event(PLAN.event(), 2)], PLAN.neighboring_relation, PLAN.delta).epsilon == pytest.approx(
        4.48, abs=0.01
    )
    with pytest.raises(PlanError, match="Poisson-sampled"):
        as_one_event(PLAN.replace(max_contributions=2).event(), 2)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (spent(PLAN.without_privacy()), "1 of them had no privacy"),
        (spent(withheld=True), "1 of them has its ε withheld"),
        (spent(steps=None), "1 of them failed at a step that nobody knows"),
        (spent(PLAN.replace(unit=Unit.EXAMPLE)), "some count per person and some per example"),
        (spent(claimed=60.0), "claims ε=60.00, more than all of their events cost"),
    ],
)
def test_one_that_cannot_be_priced_makes_the_joint_epsilon_none(other: Spent, reason: str) -> None:
    found = joint_claim([spent(), other])
    assert found.epsilon is None
    assert any(reason in why for why in found.why_none)
    assert reason in found.describe()


def test_what_never_drew_noise_is_as_if_it_had_never_been() -> None:
    assert joint_claim([]).epsilon == 0
    assert joint_claim([spent(steps=0), spent(PLAN.without_privacy(), 0)]).epsilon == 0
    alone = joint_claim([spent(), spent(steps=0), spent(PLAN.without_privacy(), 0, withheld=True)])
    assert (alone.epsilon, alone.runs) == (PLAN.epsilon(), 1)


def test_what_trained_a_model_before_is_in_the_joint_epsilon() -> None:
    before = event_json(PLAN.event())
    claimed = joint_claim([spent(earlier=[before])]).epsilon
    assert claimed == pytest.approx(joint_claim([spent(), spent()]).epsilon)
    assert claimed is not None
    both = joint_claim([spent(earlier=[before], claimed=claimed), spent(steps=10)])
    assert both.epsilon is not None
    assert both.epsilon > claimed


def test_per_example_runs_have_a_joint_epsilon_that_says_so() -> None:
    found = joint_claim([spent(PLAN.replace(unit=Unit.EXAMPLE))] * 2)
    assert found.epsilon is not None
    assert "per example" in found.describe()


runs = st.builds(
    lambda sigma, rate, steps, k: PrivacyPlan(
        sample_rate=rate,
        expected_units=8,
        steps=steps,
        delta=1e-5,
        noise_multiplier=sigma * k,
        max_contributions=k,
    ),
    sigma=st.floats(0.25, 20),
    rate=st.sampled_from([0.002, 0.05, 0.5, 1.0]),
    steps=st.integers(1, 300),
    k=st.sampled_from([1, 1, 3]),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(runs, min_size=1, max_size=3))
def test_the_joint_epsilon_is_at_least_each_claim(plans: list[PrivacyPlan]) -> None:
    claims = [plan.epsilon() for plan in plans]
    found = joint_claim([spent(plan, plan.steps, claimed=claim) for plan, claim in zip(plans, claims, strict=True)])
    assert found.epsilon is not None, found.why_none
    assert found.epsilon >= max(claims)


def test_an_epsilon_and_reasons_against_it_do_not_stand_together() -> None:
    with pytest.raises(AssertionError):
        JointClaim(epsilon=1.0, delta=1e-5, unit=Unit.USER, runs=1, why_none=("a reason",))
