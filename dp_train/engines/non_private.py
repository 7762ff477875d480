"""The baseline: an ordinary backward pass over the same rows, weights and divisor, with no clip and no noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dp_train.engines.base import EngineName, MicroBatch, RowLosses, StepRecord
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.engines.units import StepSum, check_losses, row_weights, trainable_parameters
from dp_train.privacy.plan import PrivacyPlan


class NonPrivateEngine:
    """What a private engine would give at infinite clip norm and no noise, at the price of ordinary training.

    Units whose loss or gradient is not finite count as zero here too, so that both sides of a
    comparison saw the same data.
    """

    name = EngineName.NON_PRIVATE

    def __init__(self, *, model: nn.Module, row_losses: RowLosses, plan: PrivacyPlan, ranks: Ranks = ALONE) -> None:
        self._model = model
        self._row_losses = row_losses
        self._sum = StepSum(list(trainable_parameters(model).values()), plan, noise=None, ranks=ranks)

    def accumulate(self, batch: MicroBatch) -> None:
        """Add the sum of the units' gradients; unit by unit only where something is not finite."""
        if batch.num_units == 0:
            return
        losses, gradients = self._backward(batch)
        if bool(torch.isfinite(losses).all()) and all(
            bool(torch.isfinite(gradient.sum())) for gradient in gradients.values()
        ):
            self._take(batch, losses, gradients)
            return
        for unit in range(batch.num_units):
            self._add_alone(batch.only([unit]))

    def _add_alone(self, unit: MicroBatch) -> None:
        losses, gradients = self._backward(unit)
        if bool(torch.isfinite(losses).all()) and all(
            bool(torch.isfinite(gradient).all()) for gradient in gradients.values()
        ):
            self._take(unit, losses, gradients)
        else:
            self._sum.tally.units += 1
            self._sum.tally.nonfinite_units += 1

    def _take(self, batch: MicroBatch, losses: Tensor, gradients: dict[int, Tensor]) -> None:
        self._sum.tally.units += batch.num_units
        self._sum.tally.loss_sum += float((losses.double() * _weights(batch)).sum())
        for index, gradient in gradients.items():
            self._sum.add(index, gradient)

    def _backward(self, batch: MicroBatch) -> tuple[Tensor, dict[int, Tensor]]:
        for parameter in self._sum.parameters:
            parameter.grad = None
        losses = check_losses(self._row_losses(self._model, batch.inputs), batch)
        (losses * _weights(batch)).sum().backward()  # type: ignore[no-untyped-call]
        gradients = {
            index: parameter.grad for index, parameter in enumerate(self._sum.parameters) if parameter.grad is not None
        }
        for parameter in self._sum.parameters:
            parameter.grad = None
        return losses.detach(), gradients

    def release(self, step: int) -> StepRecord:
        """Divide, write ``p.grad``."""
        return self._sum.release(step)

    def detach(self) -> None:
        """Nothing hangs on the model."""


def _weights(batch: MicroBatch) -> Tensor:
    return row_weights(batch) if batch.weights is None else batch.weights
