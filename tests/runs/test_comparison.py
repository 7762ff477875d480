"""A weak baseline makes privacy look cheap: what may be weaker than it need be is said, and not shown as the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dp_train.cli.load_config import compose
from dp_train.runs.baselines import Baseline, as_best, as_none, at_epsilon, baseline_of, rate_of
from dp_train.runs.comparison import chosen_baselines, share_of_gain
from dp_train.runs.folder import RunFolder
from dp_train.runs.grid import tradeoff_trials
from dp_train.runs.plan import make_plan
from dp_train.runs.recipe import Recipe
from dp_train.runs.result import RunResult, label
from dp_train.training.callbacks import Result, RunStatus

METRIC = "perplexity"
WORDS = ("experiments=compose/quickstart", "trainer.steps=4", "trainer.expected_units=8", "privacy.rows_per_unit=2")


def recipe_of(*words: str) -> Recipe:
    return compose([*WORDS, *words])[0]


def outcome_of(recipe: Recipe, score: float, tuning: float | None = None) -> RunResult:
    from dp_train.privacy.monitor import EpsilonClaim

    plan = replace(make_plan(recipe), noise_multiplier=1.0) if baseline_of(recipe) is None else make_plan(recipe)
    claim = EpsilonClaim(
        private=plan.private,
        withheld=(),
        spent=1.0 if plan.private else None,
        delta=plan.delta,
        unit=plan.unit,
        steps=plan.steps,
        planned_steps=plan.steps,
    )
    scores = {METRIC: score} | ({} if tuning is None else {f"tuning_{METRIC}": tuning})
    return RunResult(
        label=label(recipe),
        config=recipe,
        plan=plan,
        result=Result(status=RunStatus.FINISHED, steps=plan.steps, epsilon=claim, seconds=1.0, checkpoint=None),
        scores=scores,
        samples=(),
        folder=RunFolder(Path("nowhere")),
    )


def study(best: Mapping[float, float], *words: str, none: float = 40.0, private: float = 60.0) -> dict[Baseline, str]:
    """Doubts about each baseline where `best` scores so at its rates, by tuning people and reported ones alike."""
    recipe = recipe_of(f"tradeoff.best.learning_rates=[{','.join(map(str, best))}]", *words)
    outcomes = [outcome_of(at_epsilon(recipe, 8.0), private), outcome_of(as_none(recipe), none, none)]
    outcomes += [outcome_of(as_best(recipe, rate), score, score) for rate, score in best.items()]
    found = chosen_baselines(recipe, outcomes, metric=METRIC, higher_is_better=False)
    return {baseline: "; ".join(chosen.doubts) for baseline, chosen in found.items()}


def test_a_rate_between_worse_ones_raises_no_doubt() -> None:
    assert study({3e-4: 33.0, 1e-3: 30.0, 3e-3: 35.0})[Baseline.BEST] == ""


@pytest.mark.parametrize("weak", [0.1, 10.0])
def test_a_baseline_whose_rates_are_ten_times_off_is_flagged(weak: float) -> None:
    curve = {3e-4: 33.0, 1e-3: 30.0, 3e-3: 35.0, 3e-5: 60.0, 1e-4: 45.0, 1e-2: 50.0, 3e-2: 90.0}
    rates = [float(f"{rate * weak:.1g}") for rate in (3e-4, 1e-3, 3e-3)]
    assert "that was tried, a" in study({rate: curve[rate] for rate in rates})[Baseline.BEST]


def test_one_rate_is_flagged_unless_it_was_tuned_for_the_very_steps() -> None:
    tuned = ("tradeoff.best.tuned.learning_rate=1e-3", "tradeoff.best.tuned.steps=8")
    assert study({1e-3: 30.0}, *tuned)[Baseline.BEST] == ""
    assert "one rate was run" in study({1e-3: 30.0})[Baseline.BEST]
    assert "not rate 0.0001" in study({1e-4: 30.0}, *tuned)[Baseline.BEST]
    assert "for these 16" in study({1e-3: 30.0}, *tuned, "trainer.steps=8")[Baseline.BEST]
    assert "one rate was run" in study({1e-3: 30.0})[Baseline.NONE]
    none = ("tradeoff.none.tuned.learning_rate=3e-3", "tradeoff.none.tuned.steps=4")
    assert study({1e-3: 30.0}, *none)[Baseline.NONE] == ""


def test_a_best_that_does_not_beat_what_it_should_is_flagged() -> None:
    rates = {3e-4: 53.0, 1e-3: 50.0, 3e-3: 55.0}
    assert "no better than without privacy" in study(rates, none=40.0)[Baseline.BEST]
    assert "a private run scores better" in study(rates, private=45.0)[Baseline.BEST]
    assert "a private run scores better" in study(rates, private=35.0)[Baseline.NONE]


def test_the_tuning_people_choose_and_not_those_who_are_reported() -> None:
    recipe = recipe_of()
    outcomes = [
        outcome_of(as_best(recipe, rate), score, tuning)
        for rate, score, tuning in ((3e-4, 20.0, 33.0), (1e-3, 30.0, 30.0), (3e-3, 10.0, 35.0))
    ]
    chosen = chosen_baselines(recipe, outcomes, metric=METRIC, higher_is_better=False)[Baseline.BEST]
    assert chosen.rate == 1e-3
    unasked = [replace(outcome, scores={METRIC: outcome.scores[METRIC]}) for outcome in outcomes]
    chosen = chosen_baselines(recipe, unasked, metric=METRIC, higher_is_better=False)[Baseline.BEST]
    assert chosen.rate == 3e-3
    assert any("people who are reported" in doubt for doubt in chosen.doubts)


def test_shares_are_of_the_gain_of_best() -> None:
    assert share_of_gain(70.0, start=100.0, best=40.0, higher_is_better=False) == pytest.approx(0.5)
    assert share_of_gain(0.4, start=0.3, best=0.5, higher_is_better=True) == pytest.approx(0.5)
    assert share_of_gain(70.0, start=100.0, best=120.0, higher_is_better=False) is None
    assert share_of_gain(70.0, start=None, best=40.0, higher_is_better=False) is None


def test_best_has_no_bounds_small_batches_and_the_rows_of_the_private_run() -> None:
    recipe = recipe_of("privacy.rows_per_unit=4", "model=smollm2", "model.freeze_layers=20")
    best = as_best(recipe, 1e-3)
    plan = make_plan(best)
    assert not plan.private
    assert plan.shuffled
    assert plan.steps * plan.expected_units == 4 * 8 * 4
    assert plan.unit.value == "example"
    assert (best.model.freeze_layers, best.model.lora.freeze_a, best.model.lora.targets) == (0, False, [])
    assert (rate_of(best), baseline_of(best)) == (1e-3, Baseline.BEST)
    assert baseline_of(as_none(recipe)) is Baseline.NONE
    assert rate_of(as_none(recipe, 2e-3)) == 2e-3
    assert baseline_of(recipe) is None


def test_a_tradeoff_runs_both_baselines_or_none() -> None:
    def kinds(*words: str) -> list[Baseline | None]:
        return [baseline_of(trial.recipe) for trial in tradeoff_trials(recipe_of("tradeoff.epsilons=[8]", *words))]

    assert kinds() == [None, Baseline.NONE, *[Baseline.BEST] * 3]
    assert kinds("tradeoff.non_private=false") == [None]
    assert kinds("tradeoff.none.learning_rates=[1e-3,3e-3]").count(Baseline.NONE) == 2
    names = [trial.folder for trial in tradeoff_trials(recipe_of("tradeoff.repeats=2", "tradeoff.epsilons=[8]"))]
    assert len(set(names)) == len(names) == 10
