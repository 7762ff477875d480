"""Is a unit's loss its own? What one unit adds is bounded only if no other unit enters its loss and gradient.

A mean over the batch, a division by the microbatch's tokens, a width that the longest row sets: each lets one person
move what the others add, past any clip. So public units are compared in company and alone, in training mode, with
plain autograd and before any clip. Dropout is its mean meanwhile, as masks of a batch and of one row are others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dp_train.engines.base import MicroBatch, RowLosses
from dp_train.engines.leaving import plain_tensors
from dp_train.engines.units import check_losses, row_weights, sum_rows
from dp_train.errors import ModelError

_SEED = 0
_DROPOUTS = frozenset(
    {
        nn.functional.dropout,
        nn.functional.dropout1d,
        nn.functional.dropout2d,
        nn.functional.dropout3d,
        nn.functional.alpha_dropout,
        nn.functional.feature_alpha_dropout,
        torch.dropout,
        torch.dropout_,
        torch.alpha_dropout,
        torch.feature_dropout,
        torch.feature_alpha_dropout,
        torch.native_dropout,
    }
)
_TORCHS_OWN = frozenset(found for found in _DROPOUTS if not hasattr(found, "__code__"))


@dataclass(frozen=True, slots=True)
class _Unit:
    """What a unit gave."""

    loss: float
    gradients: tuple[Tensor, ...]  # of the parameters, in order, float32


def company_check(
    model: nn.Module,
    row_losses: RowLosses,
    batches: Sequence[MicroBatch],
    alone: Sequence[Sequence[MicroBatch]],
    *,
    parameters: Mapping[str, nn.Parameter],
    rounding: float,
) -> None:
    """Compare each unit's loss and gradient in `batches` with what it has alone, in training mode.

    Leaves the model in the modes it was in; gradients are not written to it.

    Args:
      batches: of several public units each. alone: the microbatches of each of the units by itself, in any order.
      parameters: the trainable ones by name. rounding: relative difference that is none.

    Raises:
      ModelError: a unit has another loss or gradient in company; a forward pass changes a tensor of the model.
    """
    before = {name: tensor.clone() for name, tensor in _small_tensors(model, parameters)}
    with training_without_dropout(model), torch.autograd.set_multithreading_enabled(False):
        together = [unit for batch in batches for unit in _units(model, row_losses, batch, parameters)]
        apart = [_mean([*_each(model, row_losses, cuts, parameters)]) for cuts in alone]
    for name, tensor in _small_tensors(model, parameters):
        if name not in before or not torch.equal(before[name], tensor):
            raise ModelError(
                f"self-check: {name} changes in a forward pass: what it learns would leave without noise; replace the "
                "layer by one that keeps no statistics"
            )
    if len(together) != len(apart):
        raise ModelError(
            f"self-check: {len(apart)} units alone are {len(together)} in company; expected as many; "
            "a unit must not be split over microbatches"
        )
    names = list(parameters)
    for unit in together:
        own = min(apart, key=lambda other: _distance(unit, other))
        apart.remove(own)
        off, scale = abs(unit.loss - own.loss), max(abs(own.loss), abs(unit.loss))
        if not off <= rounding * (1 + scale):
            raise ModelError(
                f"self-check: the loss of a row is {unit.loss:.4g} beside other rows and {own.loss:.4g} alone; "
                "expected a row's loss to depend on that row alone; take no mean over the batch, in task or model"
            )
        whole = _norm(own.gradients)
        for name, found, expected in zip(names, unit.gradients, own.gradients, strict=True):
            if not _norm([found - expected]) <= 4 * rounding * (_norm([expected]) + whole):
                raise ModelError(
                    f"self-check: the gradient of {name} by one row is another beside other rows than alone; expected "
                    "a row's loss to depend on that row alone; take no mean over the batch, in task or model"
                )


def units_apart(batch: MicroBatch) -> Iterator[MicroBatch]:
    """The rows of each unit, as they lie in the batch."""
    for unit in range(batch.num_units):
        rows = (batch.units == unit).nonzero().flatten()
        inputs = {name: tensor[rows] for name, tensor in batch.inputs.items()}
        yield MicroBatch(inputs=inputs, units=torch.zeros_like(rows), num_units=1)


def means_of_units(losses: Tensor, batch: MicroBatch) -> Tensor:
    """(rows,) losses → (num_units,) float32 means over the rows of each unit."""
    weighed = check_losses(losses, batch).float() * row_weights(batch)
    return sum_rows(weighed, batch)


@contextmanager
def training_without_dropout(model: nn.Module) -> Iterator[DropoutSeen]:
    """Inside, the model is in training mode and its dropout is the mean of it; says whether there was any."""
    seen = DropoutSeen()
    with _training(model, seen), _MeanDropout(seen):
        yield seen


@dataclass(slots=True)
class DropoutSeen:
    """Whether dropout would have changed anything."""

    active: bool = False


def _units(
    model: nn.Module, row_losses: RowLosses, batch: MicroBatch, parameters: Mapping[str, nn.Parameter]
) -> Iterator[_Unit]:
    """Mean loss of each unit of a batch, and its gradient."""
    torch.manual_seed(_SEED)
    losses = row_losses(model, batch.inputs)
    for unit in range(batch.num_units):
        loss = losses[batch.units == unit].mean()
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, retain_graph=True)
        gradients = (
            torch.zeros_like(parameter, dtype=torch.float32) if gradient is None else gradient.float()
            for gradient, parameter in zip(found, parameters.values(), strict=True)
        )
        yield _Unit(float(loss.detach()), tuple(gradients))


def _each(
    model: nn.Module, row_losses: RowLosses, cuts: Sequence[MicroBatch], parameters: Mapping[str, nn.Parameter]
) -> Iterator[_Unit]:
    for cut in cuts:
        yield from _units(model, row_losses, cut, parameters)


def _mean(units: Sequence[_Unit]) -> _Unit:
    if len(units) != 1:
        raise ModelError(f"self-check: one unit alone is {len(units)} units; expected one")
    return units[0]


def _distance(one: _Unit, other: _Unit) -> float:
    apart = _norm([a - b for a, b in zip(one.gradients, other.gradients, strict=True)])
    return math.inf if math.isnan(apart) else apart


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def _small_tensors(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
    """What a forward pass could teach; frozen parameters are left to their digest."""
    yield from ((name, parameter.detach()) for name, parameter in parameters.items())
    yield from model.named_buffers()
    yield from plain_tensors(model)


@contextmanager
def _training(model: nn.Module, seen: DropoutSeen) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            seen.active |= module.p > 0
            module.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _MeanDropout(TorchFunctionMode):
    """Inside, dropout of any kind gives what it gives on average: its input."""

    def __init__(self, seen: DropoutSeen) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _DROPOUTS:
            named = ("p", "training") if func not in _TORCHS_OWN else ("p", "train")
            rate, training = (
                kwargs.get(name, args[place] if len(args) > place else True)
                for place, name in enumerate(named, start=1)
            )
            self._seen.active |= bool(rate) and bool(training)
            return (args[0], None) if func is torch.native_dropout else args[0] if args else kwargs["input"]
        if func is nn.functional.scaled_dot_product_attention:
            self._seen.active |= bool(kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0))
            kwargs["dropout_p"] = 0.0
            args = (*args[:4], *((0.0,) if len(args) > 4 else ()), *args[5:])
            if len(args) > 4:
                del kwargs["dropout_p"]
        return func(*args, **kwargs)
