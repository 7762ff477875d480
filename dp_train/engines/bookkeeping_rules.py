"""What each layer's parameters receive, as factors: from the layer's inputs and the gradient of its output.

Linear layers and embeddings have factors here. Any other layer has the per-row gradient of `layer_rules` (norms, and
Opacus' rules for convolutions and the like), which is small for norms and of the layer's size a row for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dp_train.engines.bookkeeping_factors import Lookup, Product
from dp_train.engines.layer_rules import layer_rule, qualified_name, with_weight
from dp_train.errors import ModelError

Factor = Product | Lookup | Tensor
"""What one parameter receives in one call of its layer; a tensor holds (rows, *parameter.shape)."""

Received = Iterator[tuple[nn.Parameter, Factor]]
FactorRule = Callable[[Any, list[Tensor], Tensor], Received]
"""(layer, its inputs, gradient of its output), rows first → what each trainable parameter receives."""


def factor_rule(layer: nn.Module, name: str) -> FactorRule:
    """The rule for exactly this class.

    Raises:
      ModelError: there is none, or the layer's options couple rows.
    """
    kind = qualified_name(layer)
    if isinstance(layer, nn.Embedding) and (layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse):
        raise ModelError(
            f"model: embedding {name} has max_norm, scale_grad_by_freq or sparse set; "
            "the first two couple rows and the last is not covered; unset them, or freeze the layer"
        )
    if isinstance(layer, nn.Embedding) and [name for name, _ in layer.named_parameters()] == ["weight"]:
        return _embedding  # that it looks up and does nothing else is seen when it is called
    own = _FACTOR_RULES.get(kind)
    if own is not None:
        return own
    by_row = layer_rule(layer)
    if by_row is None:
        raise no_rule(layer, name)

    def dense(layer: Any, inputs: list[Tensor], grads: Tensor) -> Received:
        floats = [value.float() if value.is_floating_point() else value for value in inputs]
        yield from by_row(layer, floats, grads.float()).items()

    return dense


class Layout(Enum):
    """Where the rows are in what a layer takes and gives."""

    ROWS_FIRST = "rows first"
    ROWS_SECOND = "positions first, then rows"
    JOINED = "rows and positions in one dimension, where there are two"


_LAYOUTS = {
    "transformers.models.led.modeling_led.LEDEncoderSelfAttention": Layout.ROWS_SECOND,
    "transformers.models.opt.modeling_opt.OPTDecoderLayer": Layout.JOINED,
}


def layouts(model: nn.Module) -> dict[nn.Module, Layout]:
    """Return the layers, adapters among them, whose model is known to lay rows out in another way than rows first.

    Known by name: a shape alone cannot tell rows that were joined in order from rows that were mixed.
    """
    return {
        layer: layout
        for module in model.modules()
        if (layout := _LAYOUTS.get(qualified_name(module))) is not None
        for layer in module.modules()
    }


def no_rule(layer: nn.Module, name: str) -> ModelError:
    """What is said of a layer whose gradients of single rows are not known."""
    return ModelError(
        f"model: no rule for layer {name} ({type(layer).__name__}); freeze it, or use engine naive (slow) or functorch"
    )


class LookedUp(NamedTuple):
    """What an embedding was asked for, and what it multiplied the rows of its weight by; no scale is 1."""

    ids: Tensor
    scale: Tensor | None = None


def looked_up(layer: nn.Embedding, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> LookedUp:
    """What a call of an embedding looked up.

    Models of transformers have embeddings that count positions by themselves, shift them or scale what they find. Such
    a layer is run once more with the numbers of its rows, and with ones, in place of its weight.
    """
    if type(layer) is nn.Embedding:
        ids = inputs[0] if inputs else named["input"]
        assert isinstance(ids, Tensor)
        return LookedUp(ids)
    numbers = torch.arange(layer.num_embeddings, dtype=torch.float64, device=layer.weight.device)
    with torch.no_grad(), with_weight(layer, torch.stack([numbers, torch.ones_like(numbers)], dim=1)):
        found, scale = layer.forward(*inputs, **named).unbind(-1)
    ids = (found / scale).nan_to_num().round().long().clamp(0, layer.num_embeddings - 1)
    return LookedUp(ids, scale.float())


def is_lookup(layer: nn.Embedding, asked: LookedUp, output: Tensor) -> bool:
    """Whether an output is what was looked up, times its scale; a subclass may compute something else."""
    found = nn.functional.embedding(asked.ids, layer.weight)
    if asked.scale is not None:
        found = found * asked.scale[..., None].to(found.dtype)
    tolerance = 16 * torch.finfo(output.dtype).eps
    return found.shape == output.shape and torch.allclose(found, output, rtol=tolerance, atol=tolerance)


def relative_bias(layer: Any, inputs: list[Tensor], grads: Tensor) -> Received:
    """T5's bias: ids (queries, keys) for all rows, gradient (rows, …, heads, queries, keys), where … are ones."""
    ids = one_hot(inputs[0].flatten(), layer.num_embeddings).float()
    by_head = grads.float().reshape(grads.shape[0], grads.shape[-3], -1)
    yield layer.weight, (by_head @ ids).transpose(1, 2)


def _linear(layer: Any, inputs: list[Tensor], grads: Tensor) -> Received:
    grads = _positions(grads)
    if layer.weight.requires_grad:
        yield layer.weight, Product(grads, _positions(inputs[0]))
    if layer.bias is not None and layer.bias.requires_grad:
        yield layer.bias, grads.float().sum(1)


def _conv1d(layer: Any, inputs: list[Tensor], grads: Tensor) -> Received:
    """GPT-2's linear layer, whose weight is (in, out)."""
    grads = _positions(grads)
    if layer.weight.requires_grad:
        yield layer.weight, Product(_positions(inputs[0]), grads)
    if layer.bias.requires_grad:
        yield layer.bias, grads.float().sum(1)


def _embedding(layer: Any, inputs: list[Tensor], grads: Tensor) -> Received:
    ids = inputs[0].reshape(inputs[0].shape[0], -1)
    values = grads.reshape(*ids.shape, grads.shape[-1])
    for scale in inputs[1:]:
        values = values * scale.reshape(ids.shape)[:, :, None].to(values.dtype)
    if layer.padding_idx is not None:
        values = values.masked_fill((ids == layer.padding_idx)[:, :, None], 0.0)
    yield layer.weight, Lookup(ids, values, layer.num_embeddings)


def _positions(values: Tensor) -> Tensor:
    """(rows, …, n) → (rows, positions, n)."""
    return values[:, None] if values.dim() == 2 else values.flatten(1, -2)


_FACTOR_RULES: dict[str, FactorRule] = {
    "torch.nn.modules.linear.Linear": _linear,
    "transformers.pytorch_utils.Conv1D": _conv1d,
}
