"""From the factors of a pass to a clipped sum: Opacus' optimizer with the step that clips replaced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from torch import Tensor, nn

from dp_train.engines.base import Clipping
from dp_train.engines.bookkeeping_factors import UnitGradient, UnitRows
from dp_train.engines.bookkeeping_hooks import BookkeepingHooks
from dp_train.engines.bookkeeping_pass import Pass
from dp_train.engines.units import UnitClip
from dp_train.errors import ConfigError

_NOISE_BLOCK = 1 << 16


class BookkeepingOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimizer over factors instead of per-sample gradients.

    Guarantee: what `clip_and_accumulate` adds to ``p.summed_grad`` moves by at most `max_grad_norm` (L2, over all
    parameters of the optimizer together; for a list of norms, over each parameter by its own) when one unit is added
    or removed. A unit with a gradient that is not finite counts as zero.

    Args:
      optimizer: the user's.
      hooks: attached to the model of the optimizer's parameters.
      max_grad_norm: C, or one norm for each parameter.
      clipping: FLAT or AUTOMATIC for one norm.
      kwargs: those of `DPOptimizer`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        hooks: BookkeepingHooks,
        max_grad_norm: float | Sequence[float],
        clipping: Clipping = Clipping.FLAT,
        **kwargs: Any,
    ) -> None:
        self.max_grad_norms = None if isinstance(max_grad_norm, int | float) else list(max_grad_norm)
        whole = max_grad_norm if isinstance(max_grad_norm, int | float) else math.hypot(*max_grad_norm)
        super().__init__(optimizer, max_grad_norm=whole, **kwargs)
        if self.max_grad_norms is not None and len(self.max_grad_norms) != len(self.params):
            raise ConfigError(
                f"max_grad_norm: {len(self.max_grad_norms)} norms for {len(self.params)} tensors; "
                "give one for each trainable tensor, in the optimizer's order"
            )
        self._hooks = hooks
        bounds = (whole,) if self.max_grad_norms is None else tuple(self.max_grad_norms)
        clipping = clipping if self.max_grad_norms is None else Clipping.PER_LAYER
        self._clip = UnitClip(clipping=clipping, bounds=bounds)
        self._iterations = 1

    @property
    def grad_samples(self) -> list[nn.Parameter]:
        """One entry a parameter, for Opacus to count: per-sample gradients are never formed."""
        return list(self.params)

    @property
    def accumulated_iterations(self) -> int:
        """Backward passes that the last clipping took up."""
        return self._iterations

    def clip_and_accumulate(self) -> None:
        """Add the clipped sum of every finished pass to ``p.summed_grad``."""
        passes = self._hooks.take_passes()
        self._iterations = max(1, len(passes))
        for parameter in self.params:
            if parameter.summed_grad is not None:
                _check_processed_flag(parameter.summed_grad)
        for taken in passes:
            scale = taken.unit_rows.num_units if self.loss_reduction == "mean" else 1
            self._add(taken, scale=scale)
        for parameter in self.params:
            if parameter.summed_grad is None:
                parameter.summed_grad = torch.zeros_like(parameter, dtype=torch.float32)

    @torch.no_grad()
    def _add(self, taken: Pass, *, scale: float = 1.0, losses: Tensor | None = None) -> Tensor:
        """Clip one pass and add it up; gives the (units,) norms, not finite for units that count as zero.

        Args:
          scale: what a unit's gradient in `taken` has to be multiplied by.
          losses: (units,) float64, where they are not finite the unit counts as zero, whatever its gradient.
        """
        held = {
            index: gradient
            for index, parameter in enumerate(self.params)
            if (gradient := taken.gradients.pop(parameter, None)) is not None
        }
        squares = {index: gradient.squared_norms(taken.unit_rows) * scale**2 for index, gradient in held.items()}
        if not squares and losses is None:
            return torch.zeros(taken.unit_rows.num_units, dtype=torch.float64)
        factors, norms = self._clip.factors(squares, losses)
        whole = bool(torch.isfinite(norms).all())
        for index, gradient in held.items():
            self._add_tensor(index, gradient, factors[index], taken.unit_rows, whole=whole, scale=scale)
        return norms

    def _add_tensor(
        self,
        index: int,
        gradient: UnitGradient,
        factors: Tensor,
        unit_rows: UnitRows,
        *,
        whole: bool = False,
        scale: float = 1.0,
    ) -> None:
        """Add one tensor's clipped sum. `whole`: all that it holds is finite, for sure."""
        parameter = self.params[index]
        lost = None if whole or bool((factors > 0).all()) else factors == 0
        total = gradient.weighted_sum(factors * scale, unit_rows, lost, parameter.summed_grad)
        parameter.summed_grad = total.view(parameter.shape)

    def add_noise(self) -> None:
        """Noise ``p.summed_grad`` in place, a block at a time, and make it ``p.grad``: no second copy of the model."""
        if self.secure_mode:
            super().add_noise()  # Opacus' remedy against floating-point attacks draws each sample from four
            return
        std = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            total = parameter.summed_grad
            _check_processed_flag(total)
            for block in total.view(-1).split(_NOISE_BLOCK):
                block.add_(torch.normal(0.0, std, block.shape, device=total.device, generator=self.generator))
            parameter.grad = total.to(parameter.dtype)
            _mark_as_processed(total)  # a second step over it is refused: its noise is in it already

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Forget passes that were not clipped, ``p.grad`` and, unless a step was skipped, ``p.summed_grad``."""
        self._hooks.take_passes()
        super().zero_grad(set_to_none)
