"""The two baselines without privacy of a trade-off, as recipes, and which of them a run is.

| baseline | the same as the private runs | what its distance to them is |
|---|---|---|
| `none` | loop, sampling, bounds on a person, steps | what clip and noise cost |
| `best` | people, start, task, rows in all at most | what privacy costs: bounds, large batches and few steps as well |

Both go through `runs.run` as every run does: consent, ledger and card know them, and neither promises anything.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import Enum

from dp_train.models.spec import LoraConfig, ModelConfig, Trainable
from dp_train.privacy.relations import Unit
from dp_train.runs.names import PrivacyMode
from dp_train.runs.recipe import Recipe
from dp_train.training.optimizer_spec import OptimizerConfig, ScheduleName


class Baseline(Enum):
    """A run without privacy that private ones are compared with."""

    NONE = "none"
    BEST = "best"

    @property
    def title(self) -> str:
        """What tables and pictures call it."""
        return "without privacy" if self is Baseline.NONE else "best without bounds"


def baseline_of(recipe: Recipe) -> Baseline | None:
    """Which baseline a recipe is; None for a private run."""
    if recipe.privacy.mode is PrivacyMode.DP:
        return None
    return Baseline.BEST if recipe.trainer.shuffle else Baseline.NONE


def rate_of(recipe: Recipe) -> float:
    """The learning rate that a run without privacy takes."""
    plain = recipe.optimizer.plain_learning_rate
    return recipe.optimizer.learning_rate if plain is None else plain


def at_epsilon(recipe: Recipe, epsilon: float) -> Recipe:
    """The recipe with another ε."""
    return replace(recipe, privacy=replace(recipe.privacy, mode=PrivacyMode.DP, epsilon=epsilon, noise_multiplier=None))


def as_none(recipe: Recipe, learning_rate: float | None = None) -> Recipe:
    """The recipe without clip and noise, at another rate where one is given."""
    optimizer = recipe.optimizer
    if learning_rate is not None:
        scaled = optimizer.name == "noise_scaled"  # whose own rate is in units of the noise
        optimizer = (
            replace(optimizer, plain_learning_rate=learning_rate)
            if scaled
            else replace(optimizer, learning_rate=learning_rate)
        )
    privacy = replace(recipe.privacy, mode=PrivacyMode.NONE, epsilon=None, noise_multiplier=None)
    return replace(recipe, privacy=privacy, optimizer=optimizer)


def as_best(recipe: Recipe, learning_rate: float) -> Recipe:
    """The recipe of `best`: see `recipe_study.BestConfig`.

    Its numbers follow from the recipe's alone, for they are public: how many rows people really have is not.
    """
    asked, trainer, privacy = recipe.tradeoff.best, recipe.trainer, recipe.privacy
    rows = trainer.steps * trainer.expected_units * (privacy.rows_per_unit if privacy.unit is Unit.USER else 1)
    size = min(asked.rows, trainer.population or asked.rows)
    steps = math.ceil(rows / size)
    return replace(
        recipe,
        model=_unfrozen(recipe.model, asked.trainable),
        privacy=replace(
            privacy,
            mode=PrivacyMode.NONE,
            epsilon=None,
            noise_multiplier=None,
            unit=Unit.EXAMPLE,
            max_contributions=1,
            rows_per_unit=1,
            bands=1,
            epoch_steps=None,
            loss_noise_ratio=None,
        ),
        engine=replace(recipe.engine, scaling=0.0),
        optimizer=OptimizerConfig(
            name="adamw",
            learning_rate=learning_rate,
            weight_decay=asked.weight_decay,
            beta2=0.999,
            schedule=ScheduleName.LINEAR,
            warmup=asked.warmup,
        ),
        trainer=replace(
            trainer,
            steps=steps,
            expected_units=size,
            max_batch_units=None,
            shuffle=True,
            average=None,
            checkpoint_every=math.ceil(trainer.checkpoint_every * steps / trainer.steps),
        ),
    )


def _unfrozen(model: ModelConfig, trainable: Trainable | None) -> ModelConfig:
    """The model with nothing frozen for the sake of the noise."""
    if trainable is None:
        trainable = Trainable.LORA if model.trainable is Trainable.LORA else Trainable.ALL
    lora = LoraConfig(rank=max(16, model.lora.rank)) if trainable is Trainable.LORA else model.lora
    return replace(model, trainable=trainable, lora=lora, freeze_layers=0, freeze_embeddings=False)


__all__ = ["Baseline", "as_best", "as_none", "at_epsilon", "baseline_of", "rate_of"]
