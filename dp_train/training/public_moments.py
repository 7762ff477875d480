"""What public data says about the sizes of gradients, for `engines.scaling`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dp_train.engines.base import MicroBatch, RowLosses
from dp_train.engines.units import check_losses
from dp_train.errors import ModelError


def public_moments(
    model: nn.Module, row_losses: RowLosses, batches: Iterable[MicroBatch]
) -> dict[nn.Parameter, Tensor]:
    """Mean square of each coordinate of the gradients of *public* units, one backward pass a unit.

    Raises:
      ModelError: there are no units, or a gradient is not finite.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    totals = {parameter: torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters}
    units = 0
    for batch in batches:
        for unit in range(batch.num_units):
            alone = batch.only([unit])
            loss = check_losses(row_losses(model, alone.inputs), alone).mean()
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
            ):
                if gradient is not None:
                    totals[parameter] += gradient.float().square()
            units += 1
    if units == 0 or not all(bool(torch.isfinite(total).all()) for total in totals.values()):
        raise ModelError(
            "scaling: public gradients are missing or not finite; give public units that the model can read"
        )
    return {parameter: total / units for parameter, total in totals.items()}
