"""Shadow runs: canaries go the ordinary way of a recipe, nothing of it changes, and half the noise is refuted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES, PLAN, Case, units_of

from dp_train.audit import (
    CanaryPeople,
    DiracCanaries,
    black_box,
    draw_coins,
    exposure_run,
    roc_curve,
    verdict,
    white_box,
)
from dp_train.audit.one_run import Shadow, together
from dp_train.engines.base import Clipping, EngineName
from dp_train.errors import ConfigError, ConsentError, PlanError
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.training.method import Execution, Method
from dp_train.training.optimizers import adamw
from dp_train.training.seeds import Seeds
from dp_train.training.trainer import Trainer

CHAT = next(case for case in CASES if case.name == "chat none")
LETTERS = next(case for case in CASES if case.name == "bookkeeping")


def trainer_of(case: Case, plan: PrivacyPlan, *, lr: float = 0.01, **method: Any) -> Trainer:
    model, task = case.make()
    return Trainer(
        model,
        task,
        plan,
        optimizer=adamw(lr=lr),
        method=Method(engine=case.engine, packing=case.packing, **method),
        execution=Execution(self_check=False),
    )


def observed(trainer: Trainer, *, canaries: int = 40, company: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """What the optimizer was given of the canaries' coordinates, and which of them were in."""
    dirac, included = DiracCanaries(count=canaries), draw_coins(canaries, seed=1)
    plan, purpose = trainer.plan, trainer.task.purpose
    units = dirac.units(included, plan, purpose)
    if company:
        units = units_of(purpose, plan.unit, plan.rows_per_unit).joined(units)
    shadow = Shadow.of(trainer.setup, dirac)
    result = shadow.run(units, Seeds.fixed_for_test(5))
    assert not result.epsilon.withheld
    return shadow.watch.observed, included


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_canary_that_is_drawn_adds_one_clip_norm_to_its_own_coordinate(case: Case) -> None:
    plan = case.plan.replace(noise_multiplier=1e-4)
    seen, included = observed(trainer_of(case, plan))
    assert seen.shape == (plan.steps, 40)
    counts = seen.round()
    assert np.abs(seen - counts).max() < 2e-3
    assert set(np.unique(counts)) == {0.0, 1.0}
    assert not counts[:, ~included].any()
    share = counts[:, included].mean()
    assert abs(share - plan.sample_rate) < 4 * (0.25 * 0.75 / counts[:, included].size) ** 0.5


@pytest.mark.parametrize(("clipping", "amplitude"), [(Clipping.AUTOMATIC, 1.0), (Clipping.PER_LAYER, 0.5)])
def test_the_amplitude_is_what_the_clip_leaves(clipping: Clipping, amplitude: float) -> None:
    case = LETTERS  # three tensors are trained, and the bank
    trainer = trainer_of(case, PLAN.replace(noise_multiplier=1e-4), clipping=clipping)
    seen, _ = observed(trainer)
    assert Shadow.of(trainer.setup, DiracCanaries(count=2)).amplitude == pytest.approx(amplitude)
    assert seen.max() == pytest.approx(amplitude, rel=2e-3)


def test_a_canary_of_several_units_uses_all_that_the_plan_allows_a_person() -> None:
    plan = PLAN.replace(max_contributions=3, rows_per_unit=1, noise_multiplier=0.5)
    seen, included = observed(trainer_of(LETTERS, plan), canaries=200, company=False)
    assert seen[:, included].mean() == pytest.approx(3 * 0.25, abs=0.15)
    assert seen[:, ~included].mean() == pytest.approx(0, abs=0.1)


def test_canaries_are_drawn_in_the_turns_that_the_scores_know_and_turns_say_nothing_of_who_is_in() -> None:
    plan = PLAN.replace(bands=4, sample_rate=0.2, steps=40, noise_multiplier=1e-4)
    shadow = Shadow.of(trainer_of(LETTERS, plan).setup, dirac := DiracCanaries(count=400))
    included, seeds = draw_coins(400, seed=1), Seeds.fixed_for_test(5)
    units = dirac.units(included, plan, shadow.trainer.task.purpose)
    turns = shadow.turns(units, seeds, dirac, seed=1)
    assert turns is not None
    shadow.run(units, seeds)
    steps, canaries = np.nonzero(np.abs(shadow.watch.observed) > 0.1)
    assert included[canaries].all()
    assert len(set(canaries.tolist())) > 0.95 * included.sum()
    assert (steps % 4 == turns[canaries]).all()
    for inside in (included, ~included):
        shares = np.bincount(turns[inside], minlength=4) / inside.sum()
        assert np.abs(shares - 0.25).max() < 4 * (0.25 * 0.75 / inside.sum()) ** 0.5


def test_a_cap_on_a_step_leaves_room_for_all_canaries_whoever_is_in() -> None:
    plan = PLAN.replace(max_batch_units=60, population=50)
    purpose = LETTERS.make()[1].purpose
    company, dirac = units_of(purpose, Unit.USER, 2), DiracCanaries(count=40)
    for inside in (1, 20, 40):
        units = together(company, dirac.units(np.arange(40) < inside, plan, purpose), plan, most=40)
        assert len(units) == 10 + inside  # one canary more takes no one of the company away
        units.check(plan)


def test_a_canary_of_more_units_than_the_claim_is_about_is_refused() -> None:
    plan = PLAN.replace(unit=Unit.EXAMPLE, rows_per_unit=1)
    trainer = trainer_of(CHAT, plan)
    company = units_of(trainer.task.purpose, Unit.EXAMPLE, 1)
    words = ["plan", "ship", "budget"]
    with pytest.raises(ConfigError, match="a canary is 2 units, and the claim is about 1"):
        black_box(trainer, company, CanaryPeople.random_words(6, words, rows=2, seed=1), seed=1)
    black_box(trainer, company, CanaryPeople.random_words(6, words, rows=1, seed=1), seed=1)


@pytest.mark.parametrize("changes", [{}, {"bands": 4}, {"epoch_steps": 10, "bands": 12}])
def test_a_correct_run_is_consistent_with_its_claim_and_half_its_noise_is_refuted(changes: dict[str, int]) -> None:
    claimed = PrivacyPlan(
        sample_rate=0.1, expected_units=10, steps=40, delta=1e-5, clip_norm=0.5, rows_per_unit=2, **changes
    ).calibrate(epsilon=4.0)
    halved = claimed.replace(noise_multiplier=0.5 * claimed.calibrated_noise_multiplier)
    correct = white_box(trainer_of(LETTERS, claimed), canaries=2000, seed=3)
    planted = white_box(trainer_of(LETTERS, halved), canaries=2000, seed=3, plan=claimed)
    assert verdict(correct.bound, 4.0) == "consistent with"
    assert correct.bound.epsilon > 0.8
    assert verdict(planted.bound, 4.0) == "refutes"
    assert correct.bound.confidence == pytest.approx(0.95)


def test_nothing_of_the_recipe_changes() -> None:
    trainer = trainer_of(CHAT, PLAN)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    company = units_of(trainer.task.purpose, Unit.USER, 2)
    white_box(trainer, company, canaries=20, seed=1)
    black_box(trainer, company, CanaryPeople.random_words(6, ["plan", "ship", "budget"], rows=2, seed=1), seed=1)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert not any(module._forward_hooks for module in trainer.model.modules())


def test_shadow_runs_draw_seeds_of_their_own() -> None:
    plan = PLAN.replace(noise_multiplier=1.0)
    one, other = (white_box(trainer_of(LETTERS, plan), canaries=30).scores for _ in range(2))
    assert not np.allclose(one, other)


def test_without_privacy_people_are_told_from_losses_and_a_phrase_is_remembered() -> None:
    plan = PLAN.replace(sample_rate=1.0, steps=60).without_privacy()
    trainer = trainer_of(CHAT, plan, lr=0.03)
    company = units_of(trainer.task.purpose, Unit.USER, 2).first(8)
    words = ["plan", "ship", "review", "budget", "release", "agenda", "ticket", "deploy", "invoice", "roadmap"]
    people = CanaryPeople.random_words(16, words, rows=2, seed=2)
    found = black_box(trainer, company, people, seed=2)
    assert found.bounds == ()  # there is no claim
    assert roc_curve(found.scores, found.included).area > 0.7
    candidates = [f"{one} {two} {three}" for one in words[:4] for two in words[3:7] for three in words[6:]]
    assert exposure_run(trainer, company, candidates, secret=17, seed=3).bits > 4


def test_canaries_speak_in_meetings_too() -> None:
    case = next(case for case in CASES if case.name == "meetings within_units")
    plan = PLAN.replace(rows_per_unit=1)
    trainer = trainer_of(case, plan)
    people = CanaryPeople.like([f"we ship plan {number}" for number in range(9)], 6, seed=1)
    company = units_of(trainer.task.purpose, Unit.USER, 1)
    found = black_box(trainer, company, people, seed=4)
    assert found.scores.shape == (6,)
    assert np.isfinite(found.scores).all()
    assert found.bound.epsilon == 0  # six coins show nothing at 95 %


def test_units_are_joined_of_other_people_and_of_one_kind_alone() -> None:
    purpose = CHAT.make()[1].purpose
    company = units_of(purpose, Unit.USER, 2)
    with pytest.raises(ConsentError, match="in both"):
        company.joined(company)
    canaries = DiracCanaries(count=4).units(np.ones(4, dtype=bool), PLAN.replace(unit=Unit.EXAMPLE), purpose)
    with pytest.raises(PlanError, match="one kind"):
        company.joined(canaries)


def test_a_plan_without_privacy_has_nothing_to_bound() -> None:
    with pytest.raises(ConfigError, match="without privacy"):
        white_box(trainer_of(LETTERS, PLAN.without_privacy()), canaries=10)


def test_engines_are_all_attacked() -> None:
    assert {case.engine for case in CASES} == set(EngineName) - {EngineName.NON_PRIVATE}
