"""Which parameters a run trains. Fewer of them means less noise for the same ε, and less to learn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from dp_train.errors import ModelError
from dp_train.models.spec import Trainable as Trainable
from dp_train.models.weights import declare_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Adapters of low rank beside the linear layers (Hu et al. 2021, arXiv 2106.09685).

    Attributes:
      rank: of each update.
      alpha: updates are scaled by alpha ÷ rank; None means 2 × rank.
      dropout: share of an adapter's inputs dropped. 0 by default: noise regularises already.
      targets: names of layers that get adapters, such as ("q_proj", "v_proj"); empty means every linear layer but
        the output.
      freeze_a: train each adapter's second matrix alone, which starts at zero. Half as many numbers take noise, and
        the update stays linear in what is trained (FFA-LoRA, Sun et al. 2024, arXiv 2403.12313).
      seed: of the adapters' first weights.
    """

    rank: int = 8
    alpha: int | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    freeze_a: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ModelError(f"model: lora rank={self.rank}; expected at least 1")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"model: lora dropout={self.dropout}; expected a share in [0, 1)")


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """How many numbers are trained, of how many; tied ones count once."""

    trainable: int
    total: int


def select_trainable(
    model: PreTrainedModel,
    which: Trainable,
    *,
    layers: int = 1,
    lora: Lora | None = None,
    freeze_embeddings: bool = False,
    freeze_layers: int = 0,
) -> ParameterCount:
    """Set `requires_grad` on `model` in place, and say how many numbers will be trained.

    The model stays itself: adapters are put inside it, so that `generate` and `save_pretrained` (which
    then writes the adapters alone) work as before. Tensors that the model itself freezes, such as
    sinusoids, stay frozen.

    Args:
      layers: for LAST_LAYERS, how many blocks counted from the output; the norm after them is
        trained too, the output layer is not: it is large, and often tied to the embedding.
      lora: for LORA, the adapters; `Lora()` if not given.
      freeze_embeddings: also freeze every embedding; an output layer that is tied to one stays as it is too.
      freeze_layers: also freeze the first blocks, those of the encoder and those of the decoder, with
        their adapters.

    Raises:
      ModelError: nothing would be trained, a number or a target is impossible, or peft is not installed.
    """
    if which is Trainable.LAST_LAYERS:
        _freeze_but(model, _last_layers(model, layers))
    elif which is Trainable.NORMS_AND_BIASES:
        _freeze_but(model, _norms_and_biases(model))
    elif which is Trainable.LORA:
        _add_lora(model, lora or Lora())
        declare_tensors(tensor for name, tensor in model.named_parameters() if "lora_" in name)
    if freeze_embeddings:
        _freeze([module for module in model.modules() if isinstance(module, nn.Embedding)])
    if freeze_layers:
        _freeze(_first_layers(model, freeze_layers))
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


def _freeze(modules: list[nn.Module]) -> None:
    for module in modules:
        module.requires_grad_(False)


def _last_layers(model: PreTrainedModel, layers: int) -> list[nn.Parameter]:
    decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    blocks = _blocks(model, decoder)
    if not 1 <= layers <= len(blocks):
        raise ModelError(f"model: layers={layers}; expected 1 to {len(blocks)}, the blocks that the decoder has")
    chosen = [*list(blocks)[-layers:], *(child for child in decoder.children() if _is_norm(child))]
    return [parameter for module in chosen for parameter in module.parameters()]


def _first_layers(model: PreTrainedModel, layers: int) -> list[nn.Module]:
    sides: list[nn.Module] = [model.get_decoder()]  # type: ignore[no-untyped-call]
    if model.config.is_encoder_decoder:
        sides.append(model.get_encoder())
    lists = [_blocks(model, side) for side in sides]
    shortest = min(map(len, lists))
    if not 0 <= layers <= shortest:
        raise ModelError(f"model: freeze_layers={layers}; expected 0 to {shortest}, the blocks that there are")
    return [block for blocks in lists for block in blocks[:layers]]


def _blocks(model: PreTrainedModel, side: nn.Module) -> nn.ModuleList:
    blocks = next((child for child in side.children() if isinstance(child, nn.ModuleList)), None)
    if blocks is None:
        raise ModelError(f"model: {type(model).__name__} has no list of blocks; choose all, or norms_and_biases")
    return blocks


def _is_norm(module: nn.Module) -> bool:
    # By name: transformers has a norm class of its own in most models, with no common base.
    return "norm" in type(module).__name__.lower()


def _add_lora(model: PreTrainedModel, lora: Lora) -> None:
    try:
        from peft import LoraConfig, TaskType
    except ImportError as error:
        raise ModelError(
            "model: trainable=lora needs peft, which is not installed; pip install 'dp_train[peft]'"
        ) from error
    config = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM if model.config.is_encoder_decoder else TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) or "all-linear",
        exclude_modules=_frozen_layers(model, lora.targets),
        # GPT-2's layers hold their weights the other way round; no model mixes both kinds.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(lora.seed)
        try:
            model.add_adapter(config)
        except ValueError as error:
            raise ModelError(
                f"model: lora targets={list(lora.targets)} name no layer of {type(model).__name__} that an adapter "
                "fits; leave them empty for every linear layer"
            ) from error
    for stored in model.peft_config.values():
        base = stored.base_model_name_or_path
        if base and Path(base).is_dir():  # a name that also leads there from elsewhere
            stored.base_model_name_or_path = str(Path(base).absolute())
    if lora.freeze_a:
        for name, parameter in model.named_parameters():
            if ".lora_A." in name or ".lora_embedding_A." in name:
                parameter.requires_grad_(False)


def _frozen_layers(model: PreTrainedModel, targets: Sequence[str]) -> list[str] | None:
    """Names of linear layers that the model came with frozen, such as those that see pictures: they get no adapter."""
    output: object = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    found = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, Conv1D))
        and layer is not output
        and not layer.weight.requires_grad
        and (not targets or f".{name}".endswith(tuple(f".{target}" for target in targets)))
    ]
    return found or None
