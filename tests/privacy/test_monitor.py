"""What ran is what was planned, or there is no ε: each planted difference is named."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from dp_train.errors import CheckpointError, EpsilonWithheld
from dp_train.privacy.monitor import EpsilonClaim, RunMonitor
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.sampling import CyclicPoissonSampler, PoissonSampler

UNITS = 1237  # private: must be in no text
SEED = bytes(range(32))
PLAN = PrivacyPlan(
    sample_rate=0.05, expected_units=61, steps=40, delta=1e-6, clip_norm=0.5, noise_multiplier=2.0, max_contributions=1
)


def honest(step: int, plan: PrivacyPlan = PLAN, units: int = UNITS) -> dict[str, Any]:
    return {
        "step": step,
        "units_drawn": len(PoissonSampler(plan.sample_rate).draw(step, units, SEED)),
        "noise_draws": 1,
        "noise_std": plan.calibrated_noise_multiplier * plan.clip_norm,
        "clip_norm": plan.clip_norm,
        "divisor": plan.expected_units,
    }


def run(records: list[dict[str, Any]], plan: PrivacyPlan = PLAN, units: int = UNITS) -> EpsilonClaim:
    monitor = RunMonitor(plan)
    for record in records:
        monitor.record(record.pop("step"), **record)
    return monitor.claim(units)


def planted(**changes: Any) -> list[dict[str, Any]]:
    return [honest(step) | changes for step in range(PLAN.steps)]


def test_a_run_that_keeps_to_its_plan_has_its_epsilon() -> None:
    claim = run(planted())
    assert claim.withheld == ()
    assert claim.unwrap() == PLAN.epsilon()
    assert (claim.private, claim.delta, claim.unit, claim.steps) == (True, PLAN.delta, Unit.USER, PLAN.steps)


def test_an_early_stop_is_charged_in_full_for_it_may_have_been_chosen_while_looking() -> None:
    claim = run(planted()[:10])
    assert claim.unwrap() == PLAN.epsilon()
    assert f"stopped after 10 of {PLAN.steps} steps, charged in full" in claim.describe()


def test_a_run_of_no_steps_spent_nothing() -> None:
    assert run([]).unwrap() == 0


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        pytest.param(
            planted(noise_std=0.5 * PLAN.calibrated_noise_multiplier * PLAN.clip_norm),
            "noise std was not σ·C=1",
            id="half the noise",
        ),
        pytest.param(planted(noise_std=math.nan), "noise std was not σ·C=1", id="noise that is no number"),
        pytest.param(planted(noise_draws=2), "noise was not drawn exactly once", id="noise twice"),
        pytest.param(planted(noise_draws=0), "noise was not drawn exactly once", id="no noise"),
        pytest.param(planted(divisor=60), "not divided by expected_units=61", id="another divisor"),
        pytest.param(planted(clip_norm=1.0), "not clipped to clip_norm=0.5", id="another clip"),
        pytest.param(planted(clip_norm=math.inf), "not clipped to clip_norm=0.5", id="no clip"),
        pytest.param(planted(units_drawn=62), "not those of Poisson sampling", id="shuffling"),
        pytest.param(planted()[:5] + planted()[6:], "a step is missing", id="step left out"),
        pytest.param(planted()[1:], "a step is missing", id="first step left out"),
        pytest.param(planted()[:5] + planted()[4:], "released more than once", id="step repeated"),
        pytest.param([*planted(), honest(PLAN.steps)], "more steps ran than the planned 40", id="a step too many"),
        pytest.param(
            [honest(step, PLAN.replace(sample_rate=0.1)) for step in range(PLAN.steps)],
            "not those of Poisson sampling at sample_rate=0.05",
            id="twice the rate",
        ),
    ],
)
def test_a_planted_difference_withholds_the_claim_and_is_named(records: list[dict[str, Any]], reason: str) -> None:
    claim = run(records)
    assert len(claim.withheld) == 1
    assert reason in claim.withheld[0]
    assert claim.spent is None
    assert str(UNITS) not in claim.describe()
    with pytest.raises(EpsilonWithheld) as error:
        claim.unwrap()
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_one_wrong_step_among_many_is_enough() -> None:
    records = planted()
    records[23]["noise_std"] *= 0.9
    assert "noise std" in run(records).withheld[0]


def test_several_differences_are_all_named_once() -> None:
    claim = run(planted(divisor=1, noise_draws=3))
    assert len(claim.withheld) == 2


def test_division_by_the_batch_that_was_drawn_is_withheld_without_telling_its_size() -> None:
    records = planted()
    for record in records:
        record["divisor"] = max(1, record["units_drawn"])
    claim = run(records)
    assert claim.withheld == ("the sum was not divided by expected_units=61",)


def test_an_epoch_of_shuffled_batches_with_a_short_last_one_is_withheld() -> None:
    sizes = ([61] * 20 + [17]) * 2
    records = [honest(step) | {"units_drawn": size} for step, size in zip(range(PLAN.steps), sizes, strict=False)]
    assert "Poisson" in run(records).withheld[0]


def test_the_planned_rate_on_fewer_people_than_declared_is_fine() -> None:
    assert run([honest(step, units=150) for step in range(PLAN.steps)], units=150).withheld == ()


def test_a_resumed_monitor_claims_what_an_uninterrupted_one_claims() -> None:
    whole, first, second = RunMonitor(PLAN), RunMonitor(PLAN), RunMonitor(PLAN)
    for step in range(PLAN.steps):
        record = honest(step)
        del record["step"]
        whole.record(step, **record)
        if step == 17:
            second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        (first if step < 17 else second).record(step, **record)
    assert second.state_dict() == whole.state_dict()
    assert second.claim(UNITS) == whole.claim(UNITS)


def test_a_difference_survives_the_checkpoint() -> None:
    first, second = RunMonitor(PLAN), RunMonitor(PLAN)
    first.record(**honest(0) | {"noise_draws": 2})
    second.load_state_dict(first.state_dict())
    second.record(**honest(1))
    assert len(second.claim(UNITS).withheld) == 1


def test_a_state_of_another_plan_is_refused() -> None:
    state = RunMonitor(PLAN).state_dict()
    with pytest.raises(CheckpointError, match="another privacy plan"):
        RunMonitor(PLAN.replace(steps=41)).load_state_dict(state)


def test_the_baseline_has_no_epsilon_and_says_so() -> None:
    plan = PLAN.without_privacy()
    records = [honest(step) | {"noise_draws": 0, "noise_std": 0.0, "clip_norm": math.inf} for step in range(plan.steps)]
    claim = run(records, plan)
    assert not claim.private
    assert claim.describe() == "no privacy"
    with pytest.raises(EpsilonWithheld, match="no privacy"):
        claim.unwrap()


@pytest.mark.parametrize(
    ("spent", "shown"),
    [
        (3.0, "ε=3.00,"),
        (2.9991, "ε=3.00,"),
        (13.7049, "ε=13.71,"),
        (12.345, "ε=12.35,"),
        (0.001, "ε=0.00100,"),
        (0.04561, "ε=0.0457,"),
        (0.0, "ε=0,"),
    ],
)
def test_a_described_epsilon_is_never_below_the_true_one(spent: float, shown: str) -> None:
    claim = EpsilonClaim(private=True, withheld=(), spent=spent, delta=1e-6, unit=Unit.USER, steps=1)
    assert claim.describe().startswith(shown)


def test_the_limits_stand_beside_the_claim() -> None:
    claim = EpsilonClaim(private=True, withheld=(), spent=3.0, delta=1e-6, unit=Unit.USER, steps=1, in_ledger=True)
    assert "; not in a ledger;" in dataclasses.replace(claim, in_ledger=False).describe()
    assert claim.describe() == (
        "ε=3.00, δ=1e-06 per person "
        "(fixed meeting graph; covers the model of this run alone; "
        "not hardened against floating-point or timing attacks)"
    )
    assert "per example (not per person" in dataclasses.replace(claim, unit=Unit.EXAMPLE).describe()


def test_a_claim_cannot_hold_both_an_epsilon_and_a_reason_against_it() -> None:
    with pytest.raises(EpsilonWithheld):
        EpsilonClaim(private=True, withheld=("because",), spent=1.0, delta=1e-6, unit=Unit.USER, steps=1)
    with pytest.raises(EpsilonWithheld):
        EpsilonClaim(private=False, withheld=(), spent=1.0, delta=1e-6, unit=Unit.USER, steps=1)


def test_numpy_numbers_in_records_end_as_json() -> None:
    monitor = RunMonitor(PLAN)
    monitor.record(**honest(0) | {"units_drawn": np.int64(60)})
    json.dumps(monitor.state_dict())


BANDED = PLAN.replace(bands=4)


def in_turns(step: int, **changes: Any) -> dict[str, Any]:
    sampler = CyclicPoissonSampler(BANDED.sample_rate, BANDED.bands)
    drawn = {
        "units_drawn": len(sampler.draw(step, UNITS, SEED)),
        "observed": (len(sampler.members(step, UNITS, SEED)),),
        "noise_bands": 4,
    }
    return honest(step, BANDED) | drawn | changes


def test_a_run_with_correlated_noise_that_keeps_to_its_plan_has_its_epsilon() -> None:
    for steps in (0, 1, 3, 4, 7, 40):
        assert run([in_turns(step) for step in range(steps)], BANDED).unwrap() == (BANDED.epsilon() if steps else 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"noise_bands": 5}, "correlated over more than bands=4"),
        ({"observed": (UNITS,)}, "batch sizes"),
        ({"observed": ()}, "batch sizes"),
        ({"observed": (200,)}, "batch sizes"),
        ({"units_drawn": 61}, "batch sizes"),
    ],
)
def test_a_difference_from_a_plan_with_correlated_noise_is_named(changes: dict[str, Any], reason: str) -> None:
    claim = run([in_turns(step, **changes) for step in range(40)], BANDED)
    assert any(reason in found for found in claim.withheld)
    with pytest.raises(EpsilonWithheld):
        claim.unwrap()


def test_units_that_change_their_turn_are_found() -> None:
    records = [in_turns(step) for step in range(40)]
    records[9]["observed"] = (records[9]["observed"][0] + 1,)
    assert run(records, BANDED).withheld


def test_independent_noise_under_a_plan_with_correlated_noise_is_within_it() -> None:
    """One band is a strategy of four bands too."""
    assert run([in_turns(step, noise_bands=1) for step in range(40)], BANDED).unwrap() == BANDED.epsilon()


def test_turns_survive_a_resume() -> None:
    first = RunMonitor(BANDED)
    for step in range(17):
        first.record(**in_turns(step))
    second = RunMonitor(BANDED)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for step in range(17, 40):
        second.record(**in_turns(step))
    assert second.claim(UNITS).unwrap() == BANDED.epsilon()


CAPPED = PLAN.replace(max_batch_units=70, population=1300)
CURVE = PLAN.replace(loss_noise_ratio=10.0)


def capped(**changes: Any) -> list[dict[str, Any]]:
    records = [honest(step) for step in range(PLAN.steps)]
    return [
        one | {"observed": (one["units_drawn"],), "units_drawn": min(one["units_drawn"], 70)} | changes
        for one in records
    ]


def test_a_capped_run_that_keeps_to_its_plan_has_its_epsilon() -> None:
    assert run(capped(), CAPPED).unwrap() == CAPPED.epsilon()


@pytest.mark.parametrize(
    ("records", "units", "reason"),
    [
        (capped(observed=()), UNITS, "up to max_batch_units=70"),
        (planted(observed=(100,), units_drawn=100), UNITS, "up to max_batch_units=70"),
        (capped(), 1301, "more units than the declared population=1300"),
    ],
    ids=["coins not told", "cap not kept", "more people than declared"],
)
def test_a_difference_from_a_capped_plan_is_named(records: list[dict[str, Any]], units: int, reason: str) -> None:
    assert any(reason in why for why in run(records, CAPPED, units).withheld)


def test_a_training_curve_without_its_noise_withholds_the_claim() -> None:
    assert run(planted(loss_noise_std=CURVE.loss_noise_std), CURVE).unwrap() == CURVE.epsilon()
    for std in (0.0, CURVE.loss_noise_std / 2):
        assert run(planted(loss_noise_std=std), CURVE).withheld == ("the noise std of the training curve was not 200",)
    assert run(planted(loss_noise_std=1.0)).withheld  # one that nobody planned
