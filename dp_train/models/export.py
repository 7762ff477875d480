"""A trained model as a folder that others load: whole, or the adapters alone.

A whole folder needs transformers and nothing else; adapters need peft and the model that they were trained on.

`ship` writes the folder and then loads it as a user would. What is scored afterwards is what was loaded.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.utils import logging

from dp_train.errors import CheckpointError, ModelError
from dp_train.models.spec import Export as Export

_ADAPTER = "adapter_config.json"
_FAR = 1e-3
"""Distance of logits, relative to their size, that no other order of float32 sums explains."""

Logits = Callable[[nn.Module], Tensor]
"""Gives a model's logits on fixed public rows."""


def ship(
    model: PreTrainedModel,
    folder: Path,
    logits: Logits,
    *,
    export: Export = Export.MERGED,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Write `model` to `folder` and return what a user loads from there, in float32, on the device of `model`.

    Guarantee: the model that is returned gives the logits of `model`, but for the rounding of its weights to `dtype`.

    Args:
      logits: on rows that are public.
      export, dtype: as `save_model` takes them.

    Raises:
      ModelError: the model cannot be exported so that it stays the same.
      CheckpointError: the folder cannot be written.
    """
    device = next(model.parameters()).device
    trained = logits(model)
    written = _to_write(model, export, dtype)
    if written is not model:
        # Before its weights are rounded, so that rounding hides no fault.
        _hold_equal(trained, logits(nn.Module.to(written, device)), written)
        nn.Module.to(written, dtype)
        nn.Module.to(written, torch.float32)
        trained = logits(written)
    _write(written, folder, dtype)
    del written
    gc.collect()
    shipped = load_export(folder)
    nn.Module.to(shipped, device)
    _hold_equal(trained, logits(shipped), shipped)
    return shipped


def save_model(
    model: PreTrainedModel, folder: Path, *, export: Export = Export.MERGED, dtype: torch.dtype = torch.float32
) -> None:
    """Write weights as safetensors, and what transformers or peft need to read them. `model` stays as it is.

    Args:
      export: for models with adapters. MERGED adds them to the weights; ADAPTER writes them alone, with
        the place of the model they belong to.
      dtype: of the weights in the file, that of the model's source; adapters alone are float32.

    Raises:
      ModelError: adapters alone, of a model that lies nowhere.
      CheckpointError: the folder cannot be written.
    """
    _write(_to_write(model, export, dtype), folder, dtype)


def load_export(folder: Path) -> PreTrainedModel:
    """The model of a folder that `save_model` wrote, in float32, on the CPU, for use and not for training.

    Raises:
      ModelError: transformers cannot read it, it lacks weights, or the model under its adapters is gone.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading a file
    folder = folder.absolute()  # a name that also leads there from elsewhere
    try:
        adapter = folder / _ADAPTER
        source = json.loads(adapter.read_text())["base_model_name_or_path"] if adapter.is_file() else folder
        config = AutoConfig.from_pretrained(source)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        with torch.random.fork_rng(devices=[]):
            loaded: Any = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except Exception as error:
        raise ModelError(
            f"model {folder}: cannot be loaded ({type(error).__name__}); expected the model folder of a run, and the "
            "model that its adapters belong to where it always was"
        ) from error
    model, info = loaded
    assert isinstance(model, PreTrainedModel)
    if info.get("missing_keys"):
        raise ModelError(f"model {folder}: {len(info['missing_keys'])} of its weights are missing; export it again")
    model.train(False)
    return model


def has_adapters(model: nn.Module) -> bool:
    """Whether layers of peft are inside the model."""
    return any(hasattr(module, "get_delta_weight") for module in model.modules())


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """A new model of the plain class, its weights the old ones plus what the adapters add.

    The adapters are added in one place and never taken out again: a merge that is undone leaves rounding
    errors in the weights. Tensors that were one and are no longer, as an adapter changed one of them, are untied.
    """
    weights: dict[str, Tensor] = {}
    adapted = {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
    for name, tensor in model.state_dict().items():
        owner = next((layer for layer in adapted if name.startswith(f"{layer}.")), None)
        if owner is None:
            weights[name] = tensor
        elif name.startswith(f"{owner}.base_layer."):
            weights[name.replace(".base_layer.", ".", 1)] = tensor
    before = dict(weights)
    with torch.no_grad():
        for name, layer in adapted.items():
            for adapter in layer.active_adapters:
                weight = weights[f"{name}.weight"]
                weights[f"{name}.weight"] = weight + layer.get_delta_weight(adapter).to(weight.dtype)
    config = deepcopy(model.config)
    changed = {before[name].data_ptr() for name, weight in weights.items() if weight is not before[name]}
    kept = {weight.data_ptr() for name, weight in weights.items() if weight is before[name]}
    if changed & kept:
        config.tie_word_embeddings = False
    with torch.random.fork_rng(devices=[]):
        plain = type(model)(config)
    plain.load_state_dict(weights)
    plain.tie_weights()
    plain.generation_config = deepcopy(model.generation_config)
    plain.train(False)
    return plain


def _to_write(model: PreTrainedModel, export: Export, dtype: torch.dtype) -> PreTrainedModel:
    """The model whose `save_pretrained` writes the export: `model` itself where it does, else a copy."""
    adapters = has_adapters(model)
    if adapters and export is Export.MERGED:
        return merged(model)
    if not adapters:
        return model if dtype is torch.float32 else merged(model)
    if not all(config.base_model_name_or_path for config in model.peft_config.values()):
        raise ModelError(
            "model: its adapters alone are of no use, as it was built here and lies in no folder; "
            "set model.export=merged"
        )
    return model


def _write(model: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of writing a file
    if not has_adapters(model):
        nn.Module.to(model, dtype)
    try:
        model.save_pretrained(folder)
    except OSError as error:
        raise CheckpointError(
            f"run folder: {folder} cannot be written ({error.strerror}); free space and resume"
        ) from error


def _hold_equal(expected: Tensor, found: Tensor, model: nn.Module) -> None:
    """Raise if logits lie further apart than float32 explains."""
    distance = float((found - expected).norm() / expected.norm().clamp_min(1e-12))
    if not distance <= _FAR:
        raise ModelError(
            f"model: {type(model).__name__} as it would be exported gives other logits than as it is trained (distance "
            f"{distance:.2g}; expected {_FAR:g} at most); leave layers whose weights are shared out of "
            "model.lora.targets, or choose model.export=adapter or model.trainable=all"
        )


__all__ = ["Export", "has_adapters", "load_export", "merged", "save_model", "ship"]
