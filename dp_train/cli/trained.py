"""A run that has finished, loaded again: its configuration, task and model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dp_train.cli.assemble import MODEL_SEED, AnyTask, choose_trainable, make_task, model_spec
from dp_train.cli.compose import compose
from dp_train.cli.compose import load as load_config
from dp_train.cli.config import TrainConfig
from dp_train.cli.folders import RunFolder
from dp_train.errors import ModelError
from dp_train.models.build import build_model
from dp_train.models.tokenizer import load_tokenizer
from dp_train.training.checkpoint import CheckpointFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a finished run left."""

    config: TrainConfig
    task: AnyTask
    model: PreTrainedModel


def load(folder: RunFolder) -> Trained:
    """The model of a run, with the weights of its last checkpoint.

    Raises:
      ModelError: the run has not finished, or its checkpoint was taken away.
    """
    config, _ = compose([], stored=load_config(folder.config))
    state = CheckpointFolder(folder.checkpoint).load()
    if state is None or not state.finished:
        raise ModelError(
            f"run {folder.path}: holds no finished model; finish it with dp-train train --resume {folder.path}"
        )
    tokenizer = load_tokenizer(folder.model)
    model = build_model(model_spec(config), tokenizer, seed=MODEL_SEED)
    choose_trainable(config, model)
    model.load_state_dict(state.model)
    return Trained(config=config, task=make_task(config.task, config.model, tokenizer), model=model)
