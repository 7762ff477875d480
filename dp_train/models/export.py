"""A trained model as a folder that others load: whole, or the adapters alone.

A whole folder needs transformers and nothing else; adapters need peft and the model that they were trained on.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from dp_train.errors import CheckpointError
from dp_train.models.spec import Export as Export


def save_model(model: PreTrainedModel, folder: Path, *, export: Export = Export.MERGED) -> None:
    """Write weights as safetensors, and what transformers or peft need to read them. `model` stays as it is.

    Args:
      export: for models with adapters. MERGED adds them to the weights; ADAPTER writes them alone, with
        the place of the model they belong to.

    Raises:
      CheckpointError: the folder cannot be written.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of writing a file
    whole = merged(model) if has_adapters(model) and export is Export.MERGED else model
    try:
        whole.save_pretrained(folder)
    except OSError as error:
        raise CheckpointError(
            f"run folder: {folder} cannot be written ({error.strerror}); free space and resume"
        ) from error


def has_adapters(model: nn.Module) -> bool:
    """Whether layers of peft are inside the model."""
    return any(hasattr(module, "get_delta_weight") for module in model.modules())


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """A new model of the plain class, its weights the old ones plus what the adapters add.

    The adapters are added in one place and never taken out again: a merge that is undone leaves rounding
    errors in the weights.
    """
    weights: dict[str, Tensor] = {}
    adapted = {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
    for name, tensor in model.state_dict().items():
        owner = next((layer for layer in adapted if name.startswith(f"{layer}.")), None)
        if owner is None:
            weights[name] = tensor
        elif name.startswith(f"{owner}.base_layer."):
            weights[name.replace(".base_layer.", ".", 1)] = tensor
    with torch.no_grad():
        for name, layer in adapted.items():
            for adapter in layer.active_adapters:
                weight = weights[f"{name}.weight"]
                weights[f"{name}.weight"] = weight + layer.get_delta_weight(adapter).to(weight.dtype)
    with torch.random.fork_rng(devices=[]):
        plain = type(model)(deepcopy(model.config))
    plain.load_state_dict(weights)
    plain.tie_weights()
    plain.generation_config = deepcopy(model.generation_config)
    plain.train(False)
    return plain
