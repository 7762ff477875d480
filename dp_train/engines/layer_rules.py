"""Per-row gradients of a layer's parameters, from its input and the gradient of its output.

Opacus' rules are used where they hold; the rules here are for layers of transformers, and for what Opacus'
own leave out: `padding_idx` of embeddings and layer norms without a bias. Classes of transformers are
named, not imported: a model that holds one has imported it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from opacus.grad_sample import GradSampleHooks
from torch import Tensor, nn
from torch.nn.functional import layer_norm

LayerRule = Callable[[Any, list[Tensor], Tensor], dict[nn.Parameter, Tensor]]
"""(layer, its inputs, gradient of its output), rows first → parameter → (rows, *parameter.shape)."""


def layer_rule(layer: nn.Module) -> LayerRule | None:
    """The rule for exactly this class: a subclass may compute something else, so it inherits none.

    Every model of transformers has an RMS norm of its own, so those are known by what they compute and not by name.
    """
    known = _OWN_RULES.get(qualified_name(layer)) or GradSampleHooks.GRAD_SAMPLERS.get(type(layer))
    return known or (_scaled_rms_norm if _is_rms_norm(layer) else None)


def qualified_name(layer: nn.Module) -> str:
    """The class of a layer as module path and name."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def _conv1d(layer: Any, inputs: list[Tensor], grads: Tensor) -> dict[nn.Parameter, Tensor]:
    """GPT-2's linear layer, whose weight is (in, out)."""
    weight = torch.einsum("n...i,n...o->nio", inputs[0].to(grads.dtype), grads)
    return _trainable({layer.weight: weight, layer.bias: _sum_positions(grads)})


def _layer_norm(layer: Any, inputs: list[Tensor], grads: Tensor) -> dict[nn.Parameter, Tensor]:
    normalized = layer_norm(inputs[0], layer.normalized_shape, eps=layer.eps)
    keep = len(layer.normalized_shape)
    gradients = {layer.weight: _sum_positions(normalized * grads, keep=keep)}
    if layer.bias is not None:
        gradients[layer.bias] = _sum_positions(grads, keep=keep)
    return _trainable(gradients)


_TRIED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _is_rms_norm(layer: nn.Module) -> bool:
    """Whether a layer gives weight · x ÷ rms(x), or (1 + weight) · x ÷ rms(x), found by trying it once."""
    if layer not in _TRIED:
        _TRIED[layer] = _computes_rms_norm(layer)
    return _TRIED[layer]


def _computes_rms_norm(layer: nn.Module) -> bool:
    weight, eps = getattr(layer, "weight", None), _epsilon(layer)
    own = {name for name, _ in layer.named_parameters()} | {name for name, _ in layer.named_buffers()}
    if own != {"weight"} or not isinstance(weight, Tensor) or weight.dim() != 1 or eps is None:
        return False
    numbers = torch.Generator().manual_seed(0)
    hidden, tried = torch.randn(2, 3, len(weight), generator=numbers), torch.randn(len(weight), generator=numbers)
    hidden[1] *= eps**0.5  # where what is added under the root counts
    scaled = hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + eps)
    with torch.no_grad(), with_weight(layer, tried):
        try:
            found = layer.forward(hidden)
        except Exception:  # it takes something else
            return False
    return isinstance(found, Tensor) and any(
        found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
        for expected in (tried * scaled, (1 + tried) * scaled)
    )


def _epsilon(layer: nn.Module) -> float | None:
    """What an RMS norm adds under its root."""
    found = getattr(layer, "variance_epsilon", getattr(layer, "eps", None))
    return found if isinstance(found, float) else None


@contextmanager
def with_weight(layer: nn.Module, weight: Tensor) -> Iterator[None]:
    """The layer's own `forward` finds another weight inside; its parameter stays what it is."""
    kept = layer._parameters["weight"]
    layer._parameters["weight"] = weight  # type: ignore[assignment]
    try:
        yield
    finally:
        layer._parameters["weight"] = kept


def _scaled_rms_norm(layer: Any, inputs: list[Tensor], grads: Tensor) -> dict[nn.Parameter, Tensor]:
    """weight · x ÷ rms(x), as Llama and T5 compute it, or (1 + weight) · x ÷ rms(x), as Gemma does."""
    rows, width = inputs[0].shape[0], inputs[0].shape[-1]
    hidden, grads = inputs[0].float().reshape(rows, -1, width), grads.float().reshape(rows, -1, width)
    squares = torch.linalg.vector_norm(hidden, dim=-1).square()
    scale = torch.rsqrt(squares / width + (_epsilon(layer) or 0.0))  # (rows, positions)
    return _trainable({layer.weight: torch.bmm(scale[:, None], hidden * grads).squeeze(1)})


def _embedding(layer: Any, inputs: list[Tensor], grads: Tensor) -> dict[nn.Parameter, Tensor]:
    rows, width = inputs[0].shape[0], layer.embedding_dim
    ids = inputs[0].reshape(rows, -1, 1)
    spread = grads.reshape(rows, -1, width)
    if layer.padding_idx is not None:
        spread = spread.masked_fill(ids == layer.padding_idx, 0.0)
    table = grads.new_zeros(rows, layer.num_embeddings, width)
    return _trainable({layer.weight: table.scatter_add_(1, ids.expand(-1, -1, width), spread)})


def _scaled_embedding(layer: Any, inputs: list[Tensor], grads: Tensor) -> dict[nn.Parameter, Tensor]:
    return _embedding(layer, inputs, grads * layer.embed_scale)


def _bart_positions(layer: Any, inputs: list[Tensor], grads: Tensor) -> dict[nn.Parameter, Tensor]:
    """BART looks up position + offset, whatever its input holds; in training nothing has gone before."""
    table = grads.new_zeros(grads.shape[0], *layer.weight.shape)
    table[:, layer.offset : layer.offset + grads.shape[1]] = grads
    return _trainable({layer.weight: table})


def _sum_positions(values: Tensor, *, keep: int = 1) -> Tensor:
    """(rows, …, *last) → (rows, *last), summed over all between the rows and the last `keep` dimensions."""
    between = tuple(range(1, values.dim() - keep))
    return values.sum(between) if between else values


def _trainable(gradients: dict[nn.Parameter, Tensor]) -> dict[nn.Parameter, Tensor]:
    return {parameter: gradient for parameter, gradient in gradients.items() if parameter.requires_grad}


_OWN_RULES: dict[str, LayerRule] = {
    "torch.nn.modules.normalization.LayerNorm": _layer_norm,
    "torch.nn.modules.sparse.Embedding": _embedding,
    "transformers.pytorch_utils.Conv1D": _conv1d,
    "transformers.models.bart.modeling_bart.BartScaledWordEmbedding": _scaled_embedding,
    "transformers.models.bart.modeling_bart.BartLearnedPositionalEmbedding": _bart_positions,
}
