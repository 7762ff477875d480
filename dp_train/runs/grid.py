"""The trials of a trade-off: each ε of a grid, and both baselines, on the same people, whole grids repeated."""

from __future__ import annotations

from collections.abc import Iterator

from dp_train.runs.baselines import as_best, as_none, at_epsilon
from dp_train.runs.plan import make_plan
from dp_train.runs.recipe import Recipe
from dp_train.runs.study import Trial


def tradeoff_trials(recipe: Recipe, *, overrides: tuple[str, ...] = ()) -> list[Trial]:
    """The runs of `recipe.tradeoff`, priced, in the order in which they are made: one whole grid, then its repetition.

    A baseline is run at each rate that it may take: which of them it is, tuning people choose.

    Raises:
      ConfigError, PlanError: one of them is impossible.
    """
    task = recipe.task.name
    return [
        Trial(
            name=f"{task} {name}-trial-{repeat}",
            folder=f"{task}/{name}-trial-{repeat}",
            recipe=changed,
            plan=make_plan(changed),
            overrides=overrides,
        )
        for repeat in range(recipe.tradeoff.repeats)
        for name, changed in _points(recipe)
    ]


def _points(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    asked = recipe.tradeoff
    for epsilon in sorted(asked.epsilons):
        yield f"epsilon-{epsilon:g}", at_epsilon(recipe, epsilon)
    if not asked.non_private:
        return
    if not asked.none.learning_rates:
        yield "no-privacy", as_none(recipe)
    for rate in sorted(asked.none.learning_rates):
        yield f"no-privacy-rate-{rate:g}", as_none(recipe, rate)
    for rate in sorted(asked.best.learning_rates):
        yield f"best-rate-{rate:g}", as_best(recipe, rate)


__all__ = ["tradeoff_trials"]
