"""A trained model as a folder: what a trainer that is used by itself leaves."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from dp_train.atomic import whole_folder
from dp_train.errors import CheckpointError, ModelError
from dp_train.models.export import save_model
from dp_train.tasks.base import HasTokenizer, Task
from dp_train.training.phases import write_phases


def save_trained(model: nn.Module, task: Task, folder: Path) -> Path:
    """Write a model with its tokenizer, if the task has one, and what trained it; see `Trainer.save`."""
    if not isinstance(model, PreTrainedModel):
        raise ModelError(f"trainer: model is a {type(model).__name__}; expected one of transformers; save its own way")
    if folder.exists():
        raise CheckpointError(f"trainer: {folder} is there already; expected a new folder; choose another name")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as part:
            save_model(model, part)
            write_phases(model, part)
            if isinstance(task, HasTokenizer):
                task.tokenizer.save_pretrained(part)
    except OSError as error:
        raise CheckpointError(f"trainer: {folder} cannot be written ({error.strerror}); free space") from error
    return folder
