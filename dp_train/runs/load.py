"""A run that has finished, loaded again: its configuration, task and model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dp_train.errors import ModelError
from dp_train.models.pretrained import load_pretrained_tokenizer
from dp_train.models.tokenizer import load_tokenizer
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.prepare import choose_trainable, first_model, make_task, model_spec
from dp_train.runs.recipe import Recipe, recipe_of
from dp_train.tasks.base import Task
from dp_train.training.checkpoint import CheckpointFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a finished run left."""

    config: Recipe
    task: Task
    model: PreTrainedModel


def load(folder: RunFolder) -> Trained:
    """The model of a run, with the weights of its last checkpoint.

    Raises:
      ModelError: the run has not finished, its model is retired, or its checkpoint was taken away.
    """
    folder.refuse_retired()
    config = recipe_of(read_config(folder.config))
    state = CheckpointFolder(folder.checkpoint).load()
    if state is None or not state.finished:
        raise ModelError(
            f"run {folder.path}: holds no finished model; finish it with dp-train train --resume {folder.path}"
        )
    scratch = not config.model.builder().pretrained
    tokenizer = load_tokenizer(folder.model) if scratch else load_pretrained_tokenizer(str(folder.model))
    model = first_model(config, tokenizer)
    choose_trainable(config, model)
    model.load_state_dict(state.model)
    return Trained(config=config, task=make_task(config.task, model_spec(config).architecture, tokenizer), model=model)
