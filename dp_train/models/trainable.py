"""Which parameters a run trains. Fewer of them means less noise for the same ε, and less to learn with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import nn
from transformers import PreTrainedModel

from dp_train.errors import ModelError


class Trainable(Enum):
    """What is trained; all else is frozen."""

    ALL = "all"
    NORMS_AND_BIASES = "norms_and_biases"
    LAST_LAYERS = "last_layers"
    LORA = "lora"


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """How many numbers are trained, of how many; tied ones count once."""

    trainable: int
    total: int


def select_trainable(
    model: PreTrainedModel, which: Trainable, *, layers: int = 1, rank: int = 8, seed: int = 0
) -> ParameterCount:
    """Set `requires_grad` on `model` in place, and say how many numbers will be trained.

    The model stays itself: adapters are put inside it, so that `generate` and `save_pretrained` (which
    then writes the adapters alone) work as before. Tensors that the model itself freezes, such as
    sinusoids, stay frozen.

    Args:
      layers: for LAST_LAYERS, how many blocks counted from the output; the norm after them is
        trained too, the output layer is not: it is large, and often tied to the embedding.
      rank: for LORA, the rank of the update of every linear layer but the output.
      seed: for LORA, of the adapters' first weights.

    Raises:
      ModelError: nothing would be trained, `layers` or `rank` is impossible, or peft is not installed.
    """
    if which is Trainable.LAST_LAYERS:
        _freeze_but(model, _last_layers(model, layers))
    elif which is Trainable.NORMS_AND_BIASES:
        _freeze_but(model, _norms_and_biases(model))
    elif which is Trainable.LORA:
        _add_lora(model, rank, seed)
    count = count_parameters(model)
    if count.trainable == 0:
        raise ModelError(f"model: trainable={which.value} selects no parameter of {type(model).__name__}; choose all")
    return count


def count_parameters(model: nn.Module) -> ParameterCount:
    """Numbers trained and numbers in all; tied ones count once."""
    parameters = list(model.parameters())
    return ParameterCount(
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        total=sum(parameter.numel() for parameter in parameters),
    )


def _freeze_but(model: nn.Module, chosen: list[nn.Parameter]) -> None:
    keep = {id(parameter) for parameter in chosen}
    for parameter in model.parameters():
        if id(parameter) not in keep:
            parameter.requires_grad_(False)


def _norms_and_biases(model: nn.Module) -> list[nn.Parameter]:
    return [
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name == "bias" or _is_norm(module)
    ]


def _last_layers(model: PreTrainedModel, layers: int) -> list[nn.Parameter]:
    decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    blocks = next((child for child in decoder.children() if isinstance(child, nn.ModuleList)), None)
    if blocks is None:
        raise ModelError(f"model: {type(model).__name__} has no list of blocks; choose all, or norms_and_biases")
    if not 1 <= layers <= len(blocks):
        raise ModelError(f"model: layers={layers}; expected 1 to {len(blocks)}, the blocks that the decoder has")
    chosen = [*list(blocks)[-layers:], *(child for child in decoder.children() if _is_norm(child))]
    return [parameter for module in chosen for parameter in module.parameters()]


def _is_norm(module: nn.Module) -> bool:
    # By name: transformers has a norm class of its own in most models, with no common base.
    return "norm" in type(module).__name__.lower()


def _add_lora(model: PreTrainedModel, rank: int, seed: int) -> None:
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ModelError(
            "model: trainable=lora needs peft, which is not installed; pip install 'dp_train[peft]'"
        ) from error
    if rank < 1:
        raise ModelError(f"model: rank={rank}; expected at least 1")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        # No dropout and no bias: a row's gradient must be a function of the row.
        model.add_adapter(LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear"))
