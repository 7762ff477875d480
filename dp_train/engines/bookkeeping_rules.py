"""What each layer's parameters receive, as factors: from the layer's inputs and the gradient of its output.

Linear layers and embeddings have factors here. Any other layer has the per-row gradient of `layer_rules` (norms, and
Opacus' rules for convolutions and the like), which is small for norms and of the layer's size a row for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dp_train.engines.bookkeeping_factors import Lookup, Product
from dp_train.engines.layer_rules import layer_rule, qualified_name
from dp_train.errors import ModelError

Factor = Product | Lookup | Tensor
"""What one parameter receives in one call of its layer; a tensor holds (rows, *parameter.shape)."""

Received = Iterator[tuple[nn.Parameter, Factor]]
FactorRule = Callable[[Any, list[Tensor], Tensor], Received]
"""(layer, its inputs, gradient of its output), rows first → what each trainable parameter receives."""

T5_ATTENTION = ("transformers.models.t5.modeling_t5.T5Attention", "transformers.models.mt5.modeling_mt5.MT5Attention")
_BART_POSITIONS = "transformers.models.bart.modeling_bart.BartLearnedPositionalEmbedding"


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
    own = _FACTOR_RULES.get(kind)
    if own is not None:
        return own
    by_row = layer_rule(layer)
    if by_row is None:
        raise ModelError(
            f"model: no rule for layer {name} ({type(layer).__name__}); "
            "freeze it, or use engine naive (slow) or functorch"
        )

    def dense(layer: Any, inputs: list[Tensor], grads: Tensor) -> Received:
        floats = [value.float() if value.is_floating_point() else value for value in inputs]
        yield from by_row(layer, floats, grads.float()).items()

    return dense


def looked_up(layer: nn.Embedding, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """The ids that an embedding was called with; BART's positions count by themselves."""
    if qualified_name(layer) != _BART_POSITIONS:
        ids = inputs[0] if inputs else named["input"]
        assert isinstance(ids, Tensor)
        return ids
    given = dict(zip(("input_ids", "past_key_values_length", "position_ids"), inputs, strict=False)) | dict(named)
    offset = layer.offset
    assert isinstance(offset, int)
    if given.get("position_ids") is not None:
        positions: Tensor = given["position_ids"].unsqueeze(0)
        return positions + offset
    rows, length = given["input_ids"].shape[:2]
    start = offset + given.get("past_key_values_length", 0)
    return torch.arange(start, start + length, device=layer.weight.device).expand(rows, -1)


def relative_bias(layer: Any, inputs: list[Tensor], grads: Tensor) -> Received:
    """T5's bias: ids (queries, keys) for all rows, gradient (rows, heads, queries, keys)."""
    ids = one_hot(inputs[0].flatten(), layer.num_embeddings).float()
    yield layer.weight, (grads.float().flatten(2) @ ids).transpose(1, 2)


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
    if layer.padding_idx is not None:
        values = values.masked_fill((ids == layer.padding_idx)[:, :, None], 0.0)
    yield layer.weight, Lookup(ids, values, layer.num_embeddings)


def _scaled_embedding(layer: Any, inputs: list[Tensor], grads: Tensor) -> Received:
    yield from _embedding(layer, inputs, grads * layer.embed_scale)


def _positions(values: Tensor) -> Tensor:
    """(rows, …, n) → (rows, positions, n)."""
    return values[:, None] if values.dim() == 2 else values.flatten(1, -2)


_FACTOR_RULES: dict[str, FactorRule] = {
    "torch.nn.modules.linear.Linear": _linear,
    "torch.nn.modules.sparse.Embedding": _embedding,
    "transformers.pytorch_utils.Conv1D": _conv1d,
    "transformers.models.bart.modeling_bart.BartScaledWordEmbedding": _scaled_embedding,
    _BART_POSITIONS: _embedding,
}
