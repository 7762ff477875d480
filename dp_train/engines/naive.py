"""The reference: one unit at a time, autograd, clip, sum. Slow, and right wherever autograd is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dp_train.engines.base import Clipping, EngineName, MicroBatch, RowLosses, StepRecord
from dp_train.engines.noise import NoiseSource
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.engines.scaling import Scaling
from dp_train.engines.units import StepSum, UnitClip, check_losses, trainable_parameters
from dp_train.privacy.plan import PrivacyPlan


class NaiveEngine:
    """A forward and a backward pass for each unit alone; no hooks, and no rule per layer.

    Guarantee: that of `Engine`. Use it to check another engine, or for a model that no other engine covers.
    """

    name = EngineName.NAIVE

    def __init__(
        self,
        *,
        model: nn.Module,
        row_losses: RowLosses,
        plan: PrivacyPlan,
        noise: NoiseSource,
        clipping: Clipping = Clipping.FLAT,
        scaling: Scaling | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._model = model
        self._row_losses = row_losses
        self._clip_norm = plan.clip_norm
        self._scaling = scaling
        self._sum = StepSum(list(trainable_parameters(model).values()), plan, noise, scaling, ranks)
        self._clip = UnitClip.of(clipping, plan.clip_norm, len(self._sum.parameters))

    def accumulate(self, batch: MicroBatch) -> None:
        """Add the clipped gradients of the microbatch's units, one after the other."""
        for unit in range(batch.num_units):
            self._add_unit(batch.only([unit]))

    def _add_unit(self, alone: MicroBatch) -> None:
        loss = check_losses(self._row_losses(self._model, alone.inputs), alone).mean()
        gradients = torch.autograd.grad(loss, self._sum.parameters, allow_unused=True)
        held = {
            index: self._stretched(index, gradient) for index, gradient in enumerate(gradients) if gradient is not None
        }
        squares = {index: gradient.double().square().sum().reshape(1) for index, gradient in held.items()}
        factors, norm = self._clip.factors(squares, loss.detach().double().reshape(1))
        self._sum.tally.count(loss.detach().reshape(1), norm, self._clip_norm)
        for index, gradient in held.items():
            if factors[index] > 0:  # 0 · NaN is NaN
                self._sum.add(index, gradient.float() * factors[index][0])

    def _stretched(self, index: int, gradient: Tensor) -> Tensor:
        scale = None if self._scaling is None else self._scaling.scales.get(self._sum.parameters[index])
        return gradient if scale is None else scale.stretch(gradient.float())

    def release(self, step: int) -> StepRecord:
        """Noise, divide, write ``p.grad``."""
        return self._sum.release(step)

    def detach(self) -> None:
        """Nothing hangs on the model."""
