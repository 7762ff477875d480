"""From a checked configuration to the values that the rooms below work with.

1. corpora and consent → gated, anonymised populations (`people.py`);
2. a tokenizer from the public one, a task, the units to train on;
3. optimizer, seeds, schedule: what a trainer takes (the plan is `plan.make_plan`, the model `starting.make_model`).

Each step is a function of the configuration and of the step before, and can be called alone. Nothing
here decides about privacy: the gate, the units and the plan do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dp_train.consent.gate import ConsentedCorpus, GateReport
from dp_train.consent.registry import ConsentSnapshot
from dp_train.conversations import Example
from dp_train.engines.allocator import keep_freed_memory
from dp_train.engines.noise import NoiseKind
from dp_train.engines.scaling import FactoredScaling, Scaling
from dp_train.errors import ConfigError, DataError, ModelError
from dp_train.models.published import Published, find_published
from dp_train.models.spec import Architecture, ModelFacts
from dp_train.models.tokenizer import public_texts, tokenizer_digest
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.tables import UnitTables
from dp_train.privacy.units import Units, build_units
from dp_train.runs.evaluation import evaluation_examples
from dp_train.runs.names import DeviceName, NoiseSourceName, PrecisionName, PrivacyMode, StartMode
from dp_train.runs.plan import make_plan
from dp_train.runs.populations import Populations, populations, refuse_the_past
from dp_train.runs.processes import refuse_several_processes
from dp_train.runs.project import refuse_second_store
from dp_train.runs.recipe import Recipe
from dp_train.tasks.base import PacksRows, Task
from dp_train.tasks.spec import TASKS, TaskConfig
from dp_train.training.batches import Packing, UnitBatches
from dp_train.training.callbacks import Callback
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.method import Execution, Method
from dp_train.training.optimizer_spec import OptimizerConfig
from dp_train.training.optimizers import OptimizerFactory, Schedule
from dp_train.training.public_moments import public_moments
from dp_train.training.seeds import Seeds
from dp_train.training.trainer import Trainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class RunData:
    """All that trials of one experiment share: they differ in privacy and seeds alone."""

    populations: Populations
    tokenizer: PreTrainedTokenizerFast
    task: Task
    units: Units
    evaluation: Sequence[Example]
    """Of people who are reported."""
    tuning: Sequence[Example]
    """Of people on whom settings are chosen; the same as `evaluation` where the recipe says so."""

    published: Callable[[], Units]
    """Reads the published text, an example a unit, when it is first called."""

    @property
    def public_units(self) -> Units:
        """Published text, an example a unit."""
        return self.published()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a run is made of, for your eyes before anything is spent: a recipe, its people's data and its plan."""

    recipe: Recipe
    data: RunData
    plan: PrivacyPlan

    @property
    def funnel(self) -> Mapping[str, GateReport]:
        """How many conversations passed the consent gate, by population. Private."""
        return self.data.populations.reports


def prepare(recipe: Recipe, *, snapshot: ConsentSnapshot | None = None) -> Parts:
    """Turn a recipe into live parts; spends nothing, and writes nothing but caches and a missing key.

    Args:
      snapshot: decisions that an interrupted run began with; those of now if not given.

    Raises:
      ConfigError, ModelError: started as one of several processes, or something that is named is not there.
      StoreError: the run would make a second store for people or runs that have one.
      PlanError: no noise gives the wanted ε.
      ConsentError, DataError: see `material`.
    """
    refuse_several_processes()
    refuse_second_store(recipe)
    plan = make_plan(recipe)
    prepare_machine(recipe)
    return Parts(recipe=recipe, data=material(recipe, moment=snapshot), plan=plan)


def make_tokenizer(config: Recipe, public: ConsentedCorpus) -> PreTrainedTokenizerFast:
    """The pretrained model's or published starting point's own, or one learnt from the public population alone."""
    if config.start.mode is StartMode.PUBLISHED:
        return published_start(config).tokenizer()
    return config.model.builder().tokenizer(public_texts(public))


def published_start(config: Recipe) -> Published:
    """The starting point that the recipe names, or the package's own for its task.

    Raises:
      ModelError: there is none, or it is of another task or model.
    """
    found = find_published(config.start.name or config.task.name)
    found.check(config.task, config.model)
    return found


def make_task(config: TaskConfig, architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> Task:
    """The task of the configuration, for the model's architecture."""
    return config.spec().build(tokenizer, architecture)


def metric_of(config: Recipe) -> str:
    """Name of the primary score of the configuration's task."""
    return config.task.spec().metric


def material(config: Recipe, *, moment: ConsentSnapshot | None = None) -> RunData:
    """Everything but plan and model.

    Args:
      moment: the consent snapshot, if it was made before for an equal corpus and consent.

    Raises:
      DataError: a person is in the units and in the evaluation population.
    """
    source, architecture = config.model.builder(), model_spec(config).architecture
    own = source.tokenizer(()) if source.pretrained else None  # a folder that cannot be used: said before data is read
    gated = populations(config, moment)
    refuse_the_past(config, gated)
    tokenizer = make_tokenizer(config, gated.public) if own is None else own
    task = make_task(config.task, architecture, tokenizer)
    privacy = config.privacy
    units = build_units(
        task.examples(gated.private),
        unit=privacy.unit,
        max_contributions=privacy.max_contributions,
        rows_per_unit=privacy.rows_per_unit,
        tables=unit_tables(config, task, tokenizer),
    )
    published = cache(lambda: build_units(task.examples(gated.public), unit=Unit.EXAMPLE))
    scored = evaluation_examples(config, task, gated.evaluation, public=published)
    _expect_apart(units.people, (*scored.reported, *scored.tuning))
    return RunData(
        populations=gated,
        tokenizer=tokenizer,
        task=task,
        units=units,
        published=published,
        evaluation=scored.reported,
        tuning=scored.tuning,
    )


def unit_tables(config: Recipe, task: Task, tokenizer: PreTrainedTokenizerFast) -> UnitTables | None:
    """Where tokenised units are kept; None keeps their text in memory."""
    if config.corpus.tables is None:
        return None
    facts = {
        "task": task.name,
        "max_length": config.task.max_length,
        "max_new_tokens": config.task.max_new_tokens,
        "architecture": model_spec(config).architecture.value,
        "tokenizer": tokenizer_digest(tokenizer),
    }
    code = TASKS.code(config.task.name)
    if code is not None:  # under the same name it may encode otherwise tomorrow
        facts |= {"code": code, "options": json.dumps(dict(config.task.options), sort_keys=True, default=str)}
    return UnitTables(config.corpus.tables, encode=task.encode, facts=facts)


def _expect_apart(people: frozenset[str], evaluation: Sequence[Example]) -> None:
    """Raise DataError if a person is scored who is trained on: scores leave, and no ε covers them."""
    if any(not people.isdisjoint(example.owners) for example in evaluation):
        raise DataError(
            "evaluation: a person in it is trained on, too; expected other people, for no ε covers what scores tell; "
            "take them out of corpus.evaluation"
        )


def model_spec(config: Recipe) -> ModelFacts:
    """The numbers of a model from scratch, with as many positions as the task needs; or the pretrained one.

    Raises:
      ModelError: there is no such pretrained model, or it has fewer positions than the task needs.
    """
    return config.model.builder().facts(config.task.max_length)


def make_optimizer(config: OptimizerConfig, plan: PrivacyPlan) -> OptimizerFactory:
    """What makes the optimizer from the trainable parameters."""
    return config.spec().build(plan)


def make_schedule(config: OptimizerConfig) -> Schedule:
    """Factor on the learning rate by step."""
    return config.make_schedule()


def make_trainer(
    config: Recipe,
    model: PreTrainedModel,
    task: Task,
    plan: PrivacyPlan,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    scaling: Scaling | None = None,
    trial: str = "",
) -> Trainer:
    """A trainer that is ready to `fit`, with `make_seeds`.

    Args:
      trial: which of several runs of an equal configuration this is.
    """
    trainer = config.trainer
    return Trainer(
        model,
        task,
        plan,
        optimizer=make_optimizer(config.optimizer, plan),
        method=Method(
            engine=config.engine.engine(),
            clipping=config.engine.clipping,
            packing=packing_of(config, model, task, Packing.ACROSS_UNITS if trainer.shuffle else Packing.WITHIN_UNITS),
            schedule=make_schedule(config.optimizer),
            average=trainer.average,
            scaling=scaling,
            autocast=torch.bfloat16 if trainer.precision is PrecisionName.BFLOAT16 else None,
            by_token=trainer.shuffle,
            noise=NoiseKind.SECURE if trainer.noise is NoiseSourceName.SECURE else NoiseKind.SEEDED,
            recipe=gradient_digest(config),
            trial=trial,
        ),
        execution=Execution(
            callbacks=callbacks,
            microbatch_rows=trainer.microbatch_rows,
            microbatch_tokens=trainer.microbatch_tokens,
            checkpoint=None if checkpoint is None else CheckpointFolder(checkpoint),
            checkpoint_every=trainer.checkpoint_every,
            self_check=trainer.self_check,
        ),
    )


def make_seeds(config: Recipe) -> Seeds | None:
    """The chosen seed, or None for fresh ones."""
    return None if config.trainer.seed is None else Seeds.fixed_for_test(config.trainer.seed)


_ROUNDS_ONLY = frozenset(
    {"microbatch_rows", "microbatch_tokens", "checkpoint_every", "threads", "device", "self_check", "seed"}
)
"""Fields of `trainer` that move no gradient, and the seed, which is a secret."""


def gradient_digest(config: Recipe) -> str:
    """Digest of everything in a configuration that moves a gradient: what the run's identity keeps of it.

    Where people, consent and files lie is not in it: the units themselves are in the identity.
    """
    parts = ("task", "model", "start", "privacy", "engine", "optimizer", "anonymize")
    values: dict[str, Any] = {part: asdict(getattr(config, part)) for part in parts}
    del values["start"]["cache"]
    values["trainer"] = {name: one for name, one in asdict(config.trainer).items() if name not in _ROUNDS_ONLY}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def packing_of(config: Recipe, model: PreTrainedModel, task: Task, packing: Packing) -> Packing:
    """Return `packing` if the recipe asks for it, or leaves it open and model and task can; else `Packing.NONE`."""
    wanted = config.trainer.pack
    if wanted is None:
        wanted = isinstance(task, PacksRows) and _can_pack(model, task)
    return packing if wanted else Packing.NONE


def _can_pack(model: PreTrainedModel, task: PacksRows) -> bool:
    """Try on the model that was found; that it is a decoder says too little."""
    try:
        task.check_packing(model)
    except ModelError:
        return False
    return True


def make_scaling(config: Recipe, model: PreTrainedModel, material: RunData) -> Scaling | None:
    """Factors from public units at the starting point; None where gradients are not scaled."""
    engine = config.engine
    if engine.scaling == 0 or config.privacy.mode is PrivacyMode.NONE:
        return None
    public = material.public_units
    chosen = np.linspace(0, len(public) - 1, min(engine.scaling_units, len(public))).round().astype(np.int64)
    rows, device = config.trainer.microbatch_rows, next(model.parameters()).device
    batches = UnitBatches(public, material.task, rows=rows, device=device)
    moments = public_moments(model, material.task.row_losses, batches(chosen))
    return FactoredScaling(moments, power=engine.scaling, decay=engine.scaling_decay)


def prepare_machine(config: Recipe) -> None:
    """Threads, memory and device, before anything is loaded.

    Raises:
      ConfigError: there is no such device.
    """
    keep_freed_memory()
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    if config.trainer.device is DeviceName.CUDA and not torch.cuda.is_available():
        raise ConfigError("config: trainer.device=cuda; expected cpu, since torch finds no CUDA device here")
