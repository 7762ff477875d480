"""What the other processes of a run do: take from the first one what it prepared, and train with it.

The first one asks consent, makes tables and the starting point, reserves in the ledger, and holds folder, tracker and
screen. The others read no corpus and write nothing: model, units, plan and task reach them over the process group
alone, and `Trainer.fit` compares what would move a gradient with what the first one has.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dp_train.engines.ranks import Ranks
from dp_train.engines.scaling import Scaling
from dp_train.errors import ConfigError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.runs.prepare import make_trainer, prepare_machine
from dp_train.runs.recipe import Recipe
from dp_train.tasks.base import Task
from dp_train.training.callbacks import Result

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREPARING_SECONDS = 24 * 3600.0
"""How long the others wait while the first process prepares; they hear at once of its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the first process gives the others; as private as the units."""

    recipe: Recipe
    model: PreTrainedModel
    task: Task
    units: Units
    plan: PrivacyPlan
    scaling: Scaling | None
    trial: str


def give(ranks: Ranks, given: Given) -> None:
    """Give the other processes what they train with, where there are any."""
    if ranks.size > 1:
        ranks.from_first(pickle.dumps(given))


def dismiss(ranks: Ranks) -> None:
    """Tell the other processes that there is nothing more to do."""
    ranks.from_first(b"")


def assist(ranks: Ranks, recipe_of: Callable[[], Recipe] | None = None) -> Result | None:
    """Train with what the first process gives until it dismisses this one; in every other process of a run.

    Args:
      recipe_of: composes the recipe that this process was started with, which is compared with the first one's; that
        one's is taken where a stored run goes on.

    Returns:
      The first one's result; None where there was nothing to train.

    Raises:
      ProcessesError: the first process ended, or has another run. What `Trainer.fit` raises.
    """
    result = None
    while data := ranks.from_first(b""):
        given: Given = pickle.loads(data)
        recipe = given.recipe if recipe_of is None else of_processes(recipe_of(), ranks.size)
        prepare_machine(recipe)
        trainer = make_trainer(recipe, given.model, given.task, given.plan, scaling=given.scaling, trial=given.trial)
        result = trainer.fit(given.units)
    return result


def of_processes(recipe: Recipe, count: int) -> Recipe:
    """Return the recipe for `count` processes that were started together.

    Raises:
      ConfigError: it says another number, above 1.
    """
    asked = recipe.trainer.processes
    if asked not in (1, count):
        raise ConfigError(
            f"trainer.processes={asked}: {count} processes were started; expected as many; leave trainer.processes out "
            "where torchrun starts them"
        )
    return replace(recipe, trainer=replace(recipe.trainer, processes=count))


__all__ = ["PREPARING_SECONDS", "Given", "assist", "dismiss", "give", "of_processes"]
