"""The model that a run starts from: fresh, pretrained, or at a starting point made from published text alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from dp_train.models.pretrained import Pretrained
from dp_train.models.spec import SEED
from dp_train.models.tokenizer import tokenizer_digest
from dp_train.models.trainable import Lora, select_trainable
from dp_train.models.weights import declare_origin
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.units import Units
from dp_train.runs.names import StartMode
from dp_train.runs.prepare import RunData, model_spec, packing_of, published_start
from dp_train.runs.recipe import Recipe
from dp_train.tasks.base import Task
from dp_train.training.batches import Packing
from dp_train.training.callbacks import Callback
from dp_train.training.optimizers import adamw, linear
from dp_train.training.phases import read_phases
from dp_train.training.pretrain import StartingPoint, starting_point

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def first_model(config: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """The model before anything is trained: fresh weights, or the pretrained ones."""
    facts = model_spec(config)
    model = config.model.builder().build(facts, tokenizer)
    if isinstance(facts, Pretrained):
        read_phases(model, Path(facts.source))  # of a run of ours it knows people, and what was spent on them
    if config.model.published or not isinstance(facts, Pretrained):
        declare_origin(model)
    return model


def make_model(
    config: Recipe, material: RunData, *, callbacks: Sequence[Callback] = ()
) -> tuple[PreTrainedModel, StartingPoint | None]:
    """A model at the public starting point, which is trained where the cache has none.

    The starting point trains every parameter; what the private run trains is chosen after it.
    """
    model = first_model(config, material.tokenizer)
    nn.Module.to(model, config.trainer.device.value)  # in place; transformers' own `to` has lost its signature
    start = None
    if config.start.mode is StartMode.PUBLIC:
        start = train_start(config, model, material.task, material.tokenizer, material.public_units, callbacks)
    elif config.start.mode is StartMode.PUBLISHED:
        published = published_start(config)
        published.load_into(model)
        start = StartingPoint(path=published.path, digest=published.weights, cached=True)
    choose_trainable(config, model)
    return model, start


def train_start(
    config: Recipe,
    model: PreTrainedModel,
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    public: Units,
    callbacks: Sequence[Callback] = (),
    *,
    resumable: bool = False,
) -> StartingPoint:
    """Train every parameter of `model` on published units, in place, or load what an equal call has made before."""
    return starting_point(
        task,
        model,
        public,
        start_plan(config, public),
        optimizer=adamw(lr=config.start.learning_rate),
        schedule=linear(warmup=config.start.warmup),
        cache=Path(config.start.cache),
        facts={
            "model": model_spec(config).describe(),
            "tokenizer": tokenizer_digest(tokenizer),
            "learning_rate": config.start.learning_rate,
            "warmup": config.start.warmup,
            "seed": SEED,
        },
        callbacks=callbacks,
        microbatch_rows=config.trainer.microbatch_rows,
        packing=packing_of(config, model, task, Packing.ACROSS_UNITS),  # published text is not clipped
        microbatch_tokens=config.trainer.microbatch_tokens,
        resumable=resumable,
    )


def choose_trainable(config: Recipe, model: PreTrainedModel) -> None:
    """Freeze what the run does not train, in place."""
    chosen, lora = config.model, config.model.lora
    select_trainable(
        model,
        chosen.trainable,
        layers=chosen.last_layers,
        lora=Lora(
            rank=lora.rank,
            alpha=lora.alpha,
            dropout=lora.dropout,
            targets=tuple(lora.targets),
            freeze_a=lora.freeze_a,
        ),
        freeze_embeddings=chosen.freeze_embeddings,
        freeze_layers=chosen.freeze_layers,
    )


def start_plan(config: Recipe, public: Units) -> PrivacyPlan:
    """Sampling of the starting point. Its text is published, so the rate may follow from its size."""
    return PrivacyPlan(
        sample_rate=min(1.0, config.start.expected_units / len(public)),
        expected_units=config.start.expected_units,
        steps=config.start.steps,
        delta=1e-5,
        unit=Unit.EXAMPLE,
    )
