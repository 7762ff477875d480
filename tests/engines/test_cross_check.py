from __future__ import annotations

import pytest

from dp_train.engines.cross_check import PRV, CrossCheck, cross_check, disagreement, opinions
from dp_train.errors import PlanError
from dp_train.privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(sample_rate=0.01, expected_units=10, steps=1000, delta=1e-5, noise_multiplier=1.0)


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "delta", "prv", "rdp"),
    [
        (1.0, 0.01, 1000, 1e-5, 1.838, 2.101),
        (0.5, 0.005, 3000, 1e-6, 13.716, 15.56),
        (2.0, 0.1, 2000, 1e-6, 13.816, 14.70),
        (8.0, 0.5, 500, 1e-7, 7.908, 8.36),
    ],
)
def test_accountants_agree_on_the_table_of_the_specification(
    sigma: float, rate: float, steps: int, delta: float, prv: float, rdp: float
) -> None:
    plan = PLAN.replace(noise_multiplier=sigma, sample_rate=rate, steps=steps, delta=delta)
    found = cross_check(plan)
    assert found.agrees, found.describe()
    assert found.prv == pytest.approx(prv, abs=2e-3)
    assert found.rdp == pytest.approx(rdp, abs=1e-2)


def test_what_ran_with_half_the_noise_does_not_agree_with_the_plan() -> None:
    assert not cross_check(PLAN, history=[(0.5, 0.01, 1000)]).agrees


def test_a_run_that_stopped_early_is_compared_for_its_steps() -> None:
    found = cross_check(PLAN, history=[(1.0, 0.01, 100)])
    assert found.agrees
    assert found.pld == PLAN.epsilon(steps=100)


@pytest.mark.parametrize("plan", [PLAN.without_privacy(), PLAN.replace(max_contributions=2)])
def test_plans_that_opacus_cannot_account_are_refused(plan: PrivacyPlan) -> None:
    with pytest.raises(PlanError, match="cross-check"):
        cross_check(plan)


def test_an_rdp_below_pld_is_a_disagreement() -> None:
    assert not CrossCheck(pld=1.0, prv=1.0, rdp=0.9).agrees
    assert CrossCheck(pld=1.0, prv=1.01, rdp=1.2).describe() == "accountants agree: PLD 1.000, PRV 1.010, RDP 1.200"


@pytest.mark.parametrize(
    ("changes", "by"),
    [
        ({}, {"pld", "rdp", PRV}),
        ({"max_contributions": 4, "steps": 100}, {"pld", "rdp"}),
        ({"max_batch_units": 60, "population": 1000, "steps": 10}, {"pld"}),
        ({"sample_rate": 1e-9, "steps": 10}, {"pld", "rdp"}),
    ],
    ids=["one unit a person", "several", "capped", "never drawn"],
)
def test_every_accountant_that_knows_a_plan_has_its_say(changes: dict[str, float], by: set[str]) -> None:
    found = opinions(PLAN.replace(**changes))
    assert set(found) == by
    assert disagreement(found) is None


@pytest.mark.parametrize("found", [{"pld": 1.0, PRV: 1.03}, {"pld": 1.0, PRV: float("nan")}, {"pld": 2.0, "rdp": 1.99}])
def test_accountants_that_disagree_are_told(found: dict[str, float]) -> None:
    assert "accountants disagree" in str(disagreement(found))
