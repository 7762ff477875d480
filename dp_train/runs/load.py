"""A run's model on its way out and back: exported, compared, and loaded again by its folder alone.

`ship` leaves RUN/model, whole or not at all, once what a user loads from it gives the logits of what was trained; that
is what is scored. `load` gives `evaluate` and `generate` the same folder: a checkpoint holds training's state.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dp_train.atomic import whole_folder
from dp_train.conversations import Example
from dp_train.errors import CheckpointError, ModelError
from dp_train.models.build import Architecture
from dp_train.models.export import Export, Logits, load_export
from dp_train.models.export import ship as ship_model
from dp_train.models.pretrained import Pretrained, load_pretrained_tokenizer
from dp_train.models.tokenizer import load_tokenizer
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.prepare import make_task, model_spec
from dp_train.runs.recipe import Recipe, recipe_of
from dp_train.tasks.base import Task
from dp_train.tasks.sequences import evaluating
from dp_train.training.phases import write_phases

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PROBE = tuple(
    Example(example_id=target, prompt=prompt, target=target, owners=frozenset({"nobody"}))
    for prompt, target in (
        ("Ann: when do we ship\nBob: on the first Friday of May", "ship on Friday, not before noon"),
        ("Kim: zinc, wax and glass", "the harbour was closed because of fog"),
    )
)
"""Rows on which models are compared. No person wrote them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a finished run left."""

    config: Recipe
    task: Task
    model: PreTrainedModel


def ship(
    config: Recipe,
    model: PreTrainedModel,
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    *,
    identity: str = "",
) -> PreTrainedModel:
    """Export a trained model with its tokenizer to `folder` and return what a user loads from there.

    Guarantee: `folder` is absent, as it was, or holds a model that gives the logits of the trained one, but for the
    rounding of its weights to the type that the model came in.

    Raises:
      ModelError: the model does not stay the same. CheckpointError: the folder cannot be written.
    """
    spec = model_spec(config)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder, replace=True) as part:
            shipped = ship_model(
                model,
                part,
                logits_on(task, PROBE),
                export=Export[config.model.export.name],
                dtype=spec.dtype if isinstance(spec, Pretrained) else torch.float32,
            )
            write_phases(model, part, identity=identity)
            tokenizer.save_pretrained(part)
    except OSError as error:
        raise CheckpointError(
            f"run folder: {folder} cannot be written ({error.strerror}); free space and resume"
        ) from error
    return shipped


def logits_on(task: Task, examples: Sequence[Example]) -> Logits:
    """Give what a model answers to each of `examples` in turn: its logits, or its losses where it shows none."""

    def logits(model: nn.Module) -> Tensor:
        seen: list[Tensor] = []

        def keep(module: nn.Module, arguments: Any, output: Any) -> None:
            with suppress(AttributeError):
                seen.append(output.logits.detach().float().flatten().cpu())

        hook = model.register_forward_hook(keep)
        device = next(model.parameters()).device
        try:
            with evaluating(model):
                for example in examples:  # one at a time: padding has logits, too, and they mean nothing
                    inputs = {name: x.to(device) for name, x in task.collate([task.encode(example)]).items()}
                    seen.append(task.row_losses(model, inputs).detach().float().cpu())
        finally:
            hook.remove()
        return torch.cat(seen)

    return logits


def load(folder: RunFolder) -> Trained:
    """The model of a run, as everybody loads it from RUN/model.

    Raises:
      ModelError: the run has not finished, its model is retired, or its model was taken away.
    """
    folder.refuse_retired()
    config = recipe_of(read_config(folder.config))
    if not folder.model.is_dir():
        raise ModelError(
            f"run {folder.path}: holds no finished model; finish it with dp-train train --resume {folder.path}"
        )
    scratch = not config.model.builder().pretrained
    tokenizer = load_tokenizer(folder.model) if scratch else load_pretrained_tokenizer(str(folder.model))
    model = load_export(folder.model)
    architecture = Architecture.ENCODER_DECODER if model.config.is_encoder_decoder else Architecture.DECODER
    return Trained(config=config, task=make_task(config.task, architecture, tokenizer), model=model)
