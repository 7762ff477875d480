"""What a unit gives alone: its gradient by autograd and its clip in float64, by code that no engine shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dp_train.engines.base import Clipping, MicroBatch, RowLosses
from dp_train.engines.scaling import Scaling
from dp_train.engines.units import check_losses

_STABILITY = 0.01  # γ of `Clipping.AUTOMATIC`

Values = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class UnitAlone:
    """What a unit gave.

    Attributes:
      loss: mean over its rows.
      gradient: of that mean, stretched as the run stretches; float64, by parameter.
    """

    loss: float
    gradient: Values

    @property
    def norm(self) -> float:
        """Over all parameters together."""
        return norm_of(self.gradient.values())


@dataclass(frozen=True, slots=True)
class Reference:
    """Takes units by themselves, through plain autograd, and bounds them as `Clipping` says.

    Attributes:
      parameters: the trainable ones by name. scaling: as the run has it.
    """

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    scaling: Scaling | None = None

    def take(self, unit: MicroBatch, row_losses: RowLosses) -> UnitAlone:
        """Loss and gradient of the one unit of a microbatch. Writes no ``p.grad``."""
        return self.of_loss(check_losses(row_losses(self.model, unit.inputs), unit).mean())

    def of_loss(self, loss: Tensor) -> UnitAlone:
        """What a unit gave whose mean loss this is."""
        found = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
        gradient = {}
        for (key, parameter), own in zip(self.parameters.items(), found, strict=True):
            whole = torch.zeros_like(parameter, dtype=torch.float64) if own is None else own.double()
            scale = self.scale(key)
            gradient[key] = whole if scale is None else whole * scale
        return UnitAlone(float(loss.detach()), gradient)

    def clipped(self, unit: UnitAlone, bound: float, clipping: Clipping) -> Values:
        """The unit's gradient bounded by `bound`, and shrunk back from the run's scaling."""
        shares = len(self.parameters) if clipping is Clipping.PER_LAYER else 1
        whole = unit.norm
        values = {}
        for key, gradient in unit.gradient.items():
            norm = norm_of([gradient]) if shares > 1 else whole
            scale = self.scale(key)
            bounded = gradient * _factor(norm, bound / math.sqrt(shares), clipping)
            values[key] = bounded if scale is None else bounded / scale
        return values

    def scale(self, key: str) -> Tensor | None:
        """The run's factors on the gradient of a parameter; None where there are none."""
        scales = {} if self.scaling is None else self.scaling.scales
        parameter = self.parameters[key]
        return scales[parameter].full() if parameter in scales else None


def norm_of(tensors: Iterable[Tensor]) -> float:
    """L2 norm over all the tensors together, in float64."""
    return math.sqrt(sum(float(tensor.detach().double().square().sum()) for tensor in tensors))


def _factor(norm: float, bound: float, clipping: Clipping) -> float:
    if clipping is Clipping.AUTOMATIC:
        return bound / (norm + _STABILITY)
    return min(1.0, bound / norm) if norm > 0 else 1.0
