from __future__ import annotations

import pytest

from dp_train.engines import cross_check as room
from dp_train.engines.cross_check import PRV, CrossCheck, cross_check, disagreement, opinions, without_prv
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


def test_a_second_opinion_that_would_take_too_much_is_coarser_or_none_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    real = room.PRVAccountant.get_epsilon

    def noted(self: room.PRVAccountant, delta: float, *, eps_error: float) -> float:
        asked.append(eps_error)
        return float(real(self, delta, eps_error=eps_error))

    monkeypatch.setattr(room.PRVAccountant, "get_epsilon", noted)
    coarse = PLAN.replace(sample_rate=0.3, noise_multiplier=1.5, steps=2000)  # a thousandth of ε=86 is allowed
    assert PRV in opinions(coarse)
    assert asked == [pytest.approx(0.0151, abs=1e-3)]
    assert disagreement(opinions(coarse)) is None
    assert without_prv(coarse) is None
    monkeypatch.setattr(room, "_MOST_POINTS", 1 << 10)
    fine = PLAN.replace(steps=999)
    assert PRV not in opinions(fine)
    assert without_prv(fine) == "a grid as fine as its opinion needs has more than 1,024 points"
    assert len(asked) == 1


def test_the_plan_whose_opinion_took_25_seconds_and_3_gb_gets_one_that_is_affordable_or_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = PLAN.replace(sample_rate=0.5, noise_multiplier=0.9, steps=2000)
    monkeypatch.setattr(room.PRVAccountant, "get_epsilon", lambda *_, **__: pytest.fail("its grid is too large"))
    assert set(opinions(plan)) == {"pld", "rdp"}
    assert without_prv(plan) is not None


def test_a_second_opinion_that_finds_no_memory_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> float:
        raise MemoryError

    monkeypatch.setattr(room.PRVAccountant, "get_epsilon", no_memory)
    assert set(opinions(PLAN.replace(steps=998))) == {"pld", "rdp"}
