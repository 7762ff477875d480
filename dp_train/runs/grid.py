"""The trials of a trade-off: each ε of a grid, and no privacy, on the same people, whole grids repeated."""

from __future__ import annotations

from dataclasses import replace

from dp_train.runs.names import PrivacyMode
from dp_train.runs.plan import make_plan
from dp_train.runs.recipe import Recipe
from dp_train.runs.study import Trial


def tradeoff_trials(recipe: Recipe, *, overrides: tuple[str, ...] = ()) -> list[Trial]:
    """The runs of `recipe.tradeoff`, priced, in the order in which they are made: one whole grid, then its repetition.

    Raises:
      ConfigError, PlanError: one of them is impossible.
    """
    asked = recipe.tradeoff
    points: list[float | None] = [*sorted(asked.epsilons), *([None] if asked.non_private else [])]
    trials = []
    for repeat in range(asked.repeats):
        for epsilon in points:
            changed = at(recipe, epsilon)
            name = f"{'no-privacy' if epsilon is None else f'epsilon-{epsilon:g}'}-trial-{repeat}"
            task = recipe.task.name
            trials.append(
                Trial(
                    name=f"{task} {name}",
                    folder=f"{task}/{name}",
                    recipe=changed,
                    plan=make_plan(changed),
                    overrides=overrides,
                )
            )
    return trials


def at(recipe: Recipe, epsilon: float | None) -> Recipe:
    """The recipe with another ε, or without privacy."""
    mode = PrivacyMode.NONE if epsilon is None else PrivacyMode.DP
    return replace(recipe, privacy=replace(recipe.privacy, mode=mode, epsilon=epsilon, noise_multiplier=None))


__all__ = ["at", "tradeoff_trials"]
