"""The public starting point: a non-private run on published text, done once and kept.

It runs through the same trainer, on units that were consented for publication, so it spends no ε of
anybody; reports name it by its digest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_model, save_model
from torch import nn

from dp_train.atomic import sweep, whole_folder
from dp_train.consent.events import Purpose
from dp_train.errors import CheckpointError, ConsentError
from dp_train.models.weights import declare_names, has_known_origin, mark_tensors, names_of, weights_digest
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.tasks.base import Task
from dp_train.training.batches import Packing
from dp_train.training.callbacks import Callback, RunStatus
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.method import Execution, Method
from dp_train.training.optimizers import OptimizerFactory, Schedule, constant
from dp_train.training.phases import phases_of, record_phases
from dp_train.training.seeds import Seeds
from dp_train.training.trainer import Trainer

_WEIGHTS = "model.safetensors"
_FACTS = "facts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartingPoint:
    """Weights made from public text alone. `digest` names text, plan and first weights together."""

    path: Path
    digest: str
    cached: bool


def starting_point(
    task: Task,
    model: nn.Module,
    units: Units,
    plan: PrivacyPlan,
    *,
    optimizer: OptimizerFactory,
    cache: Path,
    facts: Mapping[str, object],
    schedule: Schedule = constant,
    callbacks: Sequence[Callback] = (),
    microbatch_rows: int = 64,
    packing: Packing = Packing.NONE,
    microbatch_tokens: int = 4096,
    resumable: bool = False,
) -> StartingPoint:
    """Train `model` in place on public `units`, or load what an equal call has made before.

    Args:
      plan: steps and sampling; it is run without privacy.
      cache: folder of starting points, one sub-folder a digest.
      facts: public facts that decide the result beside units, plan and the model's weights: its kind, tokenizer,
        optimizer.
      resumable: keep a checkpoint beside the cache's folder, so that an equal call goes on from there. Of one process
        at a time.

    Raises:
      ConsentError: the units are not published text.
      CheckpointError: the cache cannot be written.
    """
    if units.purpose is not Purpose.PUBLISH:
        raise ConsentError(
            f"starting point: units are consented for {units.purpose.value}; expected publish: whatever is learnt "
            "here is not covered by any ε"
        )
    plan = plan.without_privacy()
    first = mark_tensors(model)
    # A path or an id names other weights tomorrow, a private run's perhaps: what began it is known by its contents.
    start = weights_digest(first)
    described = {**facts, "task": task.name, "plan": plan.digest, "units": units.cohort, "start weights": start}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()
    folder = cache / digest[:16]
    if (folder / _WEIGHTS).is_file():
        load_model(model, folder / _WEIGHTS)
        learnt = names_of(mark_tensors(model))
        record_phases(learnt, phases_of(first))  # published text adds no phase, and takes none away
        if has_known_origin(first):
            declare_names(learnt)
        return StartingPoint(path=folder, digest=digest, cached=True)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    result = Trainer(
        model,
        task,
        plan,
        optimizer=optimizer,
        method=Method(schedule=schedule, packing=packing),
        execution=Execution(
            callbacks=callbacks,
            microbatch_rows=microbatch_rows,
            microbatch_tokens=microbatch_tokens,
            checkpoint=CheckpointFolder(unfinished) if resumable else None,
            checkpoint_every=200,
            together=False,
        ),
    ).fit(units, seeds=Seeds.fixed_for_test(0))
    if result.stopped_by is not None:
        signal.raise_signal(result.stopped_by)  # what the caller does with a signal is the caller's
    if result.status is not RunStatus.FINISHED:
        raise CheckpointError(f"starting point: stopped at step {result.steps} of {plan.steps}; run it again")
    _store(model, folder, described)
    shutil.rmtree(unfinished, ignore_errors=True)
    return StartingPoint(path=folder, digest=digest, cached=False)


def _store(model: nn.Module, folder: Path, facts: Mapping[str, object]) -> None:
    """Write beside, then rename: two processes that make the same starting point do not meet."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        with whole_folder(folder) as part:
            save_model(model, str(part / _WEIGHTS))
            (part / _FACTS).write_text(json.dumps(facts, sort_keys=True, indent=2, default=str) + "\n")
    except OSError as error:
        raise CheckpointError(
            f"starting point: cannot be written to {folder} ({error.strerror}); free space or set another cache folder"
        ) from error
