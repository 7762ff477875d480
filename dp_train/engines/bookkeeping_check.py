"""The first microbatch's sums and norms, held against what autograd finds by itself."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import torch
from torch import Tensor, nn

from dp_train.engines.bookkeeping_hooks import Pass
from dp_train.errors import ModelError

_AGREEMENT = 1e-3  # between two float32 ways to one sum; a wrong rule is off by far more
_ROUNDING = 8.0


class Repeat:
    """Made before a forward pass; inside it, as a context, dropout and the like come out once more as they did."""

    def __init__(self, device: torch.device) -> None:
        self._devices = [device] if device.type == "cuda" else []
        self._cpu = torch.random.get_rng_state()
        self._cuda = [torch.cuda.get_rng_state(device) for device in self._devices]
        self._fork = torch.random.fork_rng([device.index or 0 for device in self._devices])

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.random.set_rng_state(self._cpu)
        for device, state in zip(self._devices, self._cuda, strict=True):
            torch.cuda.set_rng_state(state, device)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fork.__exit__(kind, error, trace)


def agrees_with_autograd(taken: Pass, losses: Tensor, parameters: Mapping[str, nn.Parameter]) -> bool:
    """Hold a pass against the same losses differentiated in the ordinary way.

    Units get random weights, so that rows that are mixed up show; one unit's norm is compared as well. What it
    finds: rows that are not where a rule expects them, rows that depend on each other, layers that do something
    else than their rule says, parameters used in ways that no hook sees.

    Args:
      taken: the pass, its factors not yet summed.
      losses: (rows,) weighted losses of the same microbatch, with a graph.
      parameters: the trainable ones by name.

    Returns:
      False where nothing can be said, as a loss or a gradient is not finite.

    Raises:
      ModelError: they disagree.
    """
    unit_rows = taken.unit_rows
    weights = torch.rand(unit_rows.num_units, generator=torch.Generator().manual_seed(0)).to(losses.device) + 0.5
    squares = {name: _squares(taken, parameter) for name, parameter in parameters.items()}
    total = torch.stack(list(squares.values())).sum(0)
    if not bool(torch.isfinite(losses.sum() + total.sum())):
        return False
    chosen = int(torch.bincount(unit_rows.owner, minlength=unit_rows.num_units).argmax())  # products between rows count
    alone = torch.zeros_like(weights)
    alone[chosen] = 1.0
    ordinary, single = (
        _gradients((losses * by_unit[unit_rows.owner]).sum(), list(parameters.values())) for by_unit in (weights, alone)
    )
    rounding = _ROUNDING * taken.rounding
    for (name, parameter), expected, one in zip(parameters.items(), ordinary, single, strict=True):
        gradient = taken.gradients.get(parameter)
        found = torch.zeros_like(expected, dtype=torch.float32)
        if gradient is not None:
            found = gradient.weighted_sum(weights, unit_rows, None, None).view(expected.shape)
        norms, wholes = squares[name].sqrt(), total.sqrt()
        # A bias that a softmax cancels has rounding errors of its neighbours for a gradient: hence the wholes.
        allowed = max(_AGREEMENT, rounding) * norms + rounding * wholes
        sums_differ = float(torch.linalg.vector_norm(found.double() - expected.double()))
        norms_differ = abs(float(norms[chosen]) - float(torch.linalg.vector_norm(one.double())))
        if not (sums_differ <= float(allowed.sum()) and norms_differ <= float(allowed[chosen])):
            raise ModelError(
                f"model: the gradient of {name} is not the sum of what its layer saw of each row; the layer is used in "
                "a way that its rule does not cover, or rows depend on each other; use engine naive"
            )
    return True


def _squares(taken: Pass, parameter: nn.Parameter) -> Tensor:
    gradient = taken.gradients.get(parameter)
    if gradient is None:
        return torch.zeros(taken.unit_rows.num_units, dtype=torch.float64, device=taken.unit_rows.owner.device)
    return gradient.squared_norms(taken.unit_rows)


def _gradients(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """By `backward`, as reentrant checkpoints do not know `torch.autograd.grad`."""
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    found = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return found
