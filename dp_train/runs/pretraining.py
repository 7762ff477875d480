"""Make a published starting point: train a model from scratch on published text alone, store it, score what was stored.

No ε covers it, and none has to: its text is published, and nothing private is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from dp_train.errors import CheckpointError, ConfigError
from dp_train.models.published import Published, publish, round_weights
from dp_train.models.tokenizer import tokenizer_digest
from dp_train.privacy.plan import Unit
from dp_train.privacy.units import build_units
from dp_train.runs.evaluation import evaluation_examples
from dp_train.runs.names import StartMode
from dp_train.runs.populations import published_text
from dp_train.runs.prepare import make_task, make_tokenizer, model_spec, prepare_machine
from dp_train.runs.processes import refuse_several_processes
from dp_train.runs.recipe import Recipe
from dp_train.runs.starting import first_model, train_start
from dp_train.tasks.base import HasBaselines, Sample
from dp_train.tracking.provenance import public_overrides
from dp_train.training.callbacks import Callback


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """A starting point as it lies in its folder: what is said of it, and what it writes for people outside training."""

    published: Published
    samples: Sequence[Sample]


def pretrain(
    recipe: Recipe, folder: Path, *, words: Sequence[str] = (), callbacks: Sequence[Callback] = ()
) -> Pretrained:
    """Train the starting point of a recipe, and publish it in a new `folder` that `start.name` can take.

    A call that was ended goes on where its last checkpoint left it, if the recipe is the same.

    Args:
      words: what was typed, for the facts, which hold no seed.

    Raises:
      ConfigError: the recipe starts otherwise than by training on published text, or from a pretrained model.
      CheckpointError: the folder is there already, or cannot be written.
    """
    refuse_several_processes()
    if recipe.start.mode is not StartMode.PUBLIC or recipe.model.source != "scratch":
        raise ConfigError(
            f"config: start.mode={recipe.start.mode.value} with model.source={recipe.model.source}; expected "
            "start=public and a model from scratch, which is what is trained here"
        )
    if folder.exists():
        raise CheckpointError(f"{folder}: exists already; expected a new folder; remove it, or name another")
    prepare_machine(recipe)
    text, scored = published_text(recipe)
    tokenizer = make_tokenizer(recipe, text)
    task = make_task(recipe.task, model_spec(recipe).architecture, tokenizer)
    public = build_units(task.examples(text), unit=Unit.EXAMPLE)
    evaluation = evaluation_examples(recipe, task, scored).reported
    model = first_model(recipe, tokenizer)
    nn.Module.to(model, recipe.trainer.device.value)
    train_start(recipe, model, task, tokenizer, public, callbacks, resumable=True)
    nn.Module.to(model, "cpu")
    round_weights(model)  # what is scored is what is stored
    scores = task.evaluate(model, evaluation) if evaluation else {}
    baselines = {}
    if isinstance(task, HasBaselines) and evaluation:
        baselines = task.baselines(evaluation, public=[example for unit in public for example in unit])
    start, spec = recipe.start, model_spec(recipe)
    published = publish(
        folder,
        model,
        tokenizer,
        {
            "command": " ".join(["dp-train pretrain", *public_overrides(words)]),
            "task": task.name,
            "model": {**spec.describe(), "vocab_size": recipe.model.vocab_size},
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "tokenizer": tokenizer_digest(tokenizer),
            "text": text.name,
            "examples": len(public),
            "units": public.cohort,
            "steps": start.steps,
            "expected_units": start.expected_units,
            "learning_rate": start.learning_rate,
            "scored_on": f"{len(evaluation)} examples of {scored.name}" if scored is not None else None,
            "scores": scores,
            "baselines": baselines,
        },
    )
    return Pretrained(published=published, samples=task.samples(model, evaluation, recipe.evaluation.samples))
