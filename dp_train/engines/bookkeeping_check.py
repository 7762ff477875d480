"""A few units' sums and a norm, held against what autograd finds by itself, before the first microbatch counts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dp_train.engines.base import MicroBatch, RowLosses
from dp_train.engines.bookkeeping_factors import UnitRows
from dp_train.engines.bookkeeping_hooks import BookkeepingHooks
from dp_train.engines.bookkeeping_pass import Pass
from dp_train.engines.units import check_losses, row_weights
from dp_train.errors import ModelError

_UNITS = 3
_AGREEMENT = 1e-3  # between two float32 ways to one sum; a wrong rule is off by far more
_ROUNDING = 8.0


def agrees_with_autograd(
    hooks: BookkeepingHooks,
    model: nn.Module,
    row_losses: RowLosses,
    batch: MicroBatch,
    parameters: Mapping[str, nn.Parameter],
) -> bool:
    """Differentiate a few units of a microbatch in both ways.

    Units get unlike weights, so that rows that are mixed up show; one unit's norm is compared as well. What it
    finds: rows that are not where a rule expects them, rows that depend on each other, layers that do something
    else than their rule says, parameters used in ways that no hook sees.

    Returns:
      False where nothing can be said, as a loss or a gradient is not finite.

    Raises:
      ModelError: they disagree.
    """
    few = _few_units(batch)
    devices = [tensor.device.index or 0 for tensor in few.inputs.values() if tensor.device.type == "cuda"]

    def weighted_losses() -> Tensor:
        # Every pass from one random state: dropout and the like come out as they did.
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)
            return check_losses(row_losses(model, few.inputs), few) * row_weights(few)

    with hooks.recording(UnitRows(few.units, few.num_units)) as taken:
        weighted_losses().sum().backward()  # type: ignore[no-untyped-call]
    refuse_uses_outside_layers(parameters)
    squares = {name: _squares(taken, parameter) for name, parameter in parameters.items()}
    total = torch.stack(list(squares.values())).sum(0)
    losses = weighted_losses()
    if not bool(torch.isfinite(losses.sum() + total.sum())):
        return False
    weights = torch.linspace(0.5, 1.5, few.num_units, device=losses.device)
    first = torch.zeros_like(weights)
    first[0] = 1.0
    ordinary, single = (_gradients((losses * by_unit[few.units]).sum(), parameters) for by_unit in (weights, first))
    rounding = _ROUNDING * taken.rounding
    for (name, parameter), expected, one in zip(parameters.items(), ordinary, single, strict=True):
        gradient = taken.gradients.get(parameter)
        found = torch.zeros_like(expected, dtype=torch.float32)
        if gradient is not None:
            found = gradient.weighted_sum(weights, taken.unit_rows, None, None).view(expected.shape)
        # A bias that a softmax cancels has rounding errors of its neighbours for a gradient: hence the total.
        allowed = max(_AGREEMENT, rounding) * squares[name].sqrt() + rounding * total.sqrt()
        sums_differ = float(torch.linalg.vector_norm(found.double() - expected.double()))
        norms_differ = abs(float(squares[name][0].sqrt()) - float(torch.linalg.vector_norm(one.double())))
        if not (sums_differ <= float(allowed.sum()) and norms_differ <= float(allowed[0])):
            raise ModelError(
                f"model: the gradient of {name} is not the sum of what its layer saw of each row; the layer is used in "
                "a way that its rule does not cover, or rows depend on each other; use engine naive"
            )
    return True


def refuse_uses_outside_layers(parameters: Mapping[str, nn.Parameter]) -> None:
    """To be called after a recorded backward pass: what autograd gave a gradient, no hook has seen.

    Raises:
      ModelError: a parameter has one.
    """
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            parameter.grad = None
            raise ModelError(
                f"model: {name} is used outside its layer, where no hook sees it; call the layer, or use engine naive"
            )


def _few_units(batch: MicroBatch) -> MicroBatch:
    """The unit with most rows first, as products between rows count, and two others."""
    counts = torch.bincount(batch.units, minlength=batch.num_units)
    chosen = counts.argsort(descending=True, stable=True)[:_UNITS]
    rows = torch.cat([(batch.units == unit).nonzero().flatten() for unit in chosen])
    return MicroBatch(
        inputs={name: tensor[rows] for name, tensor in batch.inputs.items()},
        units=torch.arange(len(chosen), device=rows.device).repeat_interleave(counts[chosen]),
        num_units=len(chosen),
    )


def _squares(taken: Pass, parameter: nn.Parameter) -> Tensor:
    gradient = taken.gradients.get(parameter)
    if gradient is None:
        return torch.zeros(taken.unit_rows.num_units, dtype=torch.float64, device=taken.unit_rows.owner.device)
    return gradient.squared_norms(taken.unit_rows)


def _gradients(loss: Tensor, parameters: Mapping[str, nn.Parameter]) -> list[Tensor]:
    """By `backward`, as reentrant checkpoints do not know `torch.autograd.grad`."""
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    found = []
    for parameter in parameters.values():
        found.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        parameter.grad = None
    return found
