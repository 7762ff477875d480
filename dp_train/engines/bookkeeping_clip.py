"""From the factors of a pass to a clipped sum: Opacus' optimizer with the step that clips replaced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Any

import torch
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from torch import Tensor, nn

from dp_train.engines.bookkeeping_hooks import BookkeepingHooks, Pass
from dp_train.engines.units import clip_factors
from dp_train.errors import ConfigError

_STABILITY = 0.01  # γ of automatic clipping


class Clipping(Enum):
    """How a unit's gradient is bounded by the clip norm C.

    FLAT: g · min(1, C ÷ ‖g‖). Sensitivity C.
    AUTOMATIC: C · g ÷ (‖g‖ + 0.01), which has no clip norm to tune: C and the learning rate are one
    (Bu et al. 2023, arXiv 2206.07136). Sensitivity below C.
    PER_LAYER: each of the L tensors clipped by itself to C ÷ √L. Sensitivity C, as the squares add up.
    """

    FLAT = "flat"
    AUTOMATIC = "automatic"
    PER_LAYER = "per_layer"


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
        self._clipping = clipping
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
    def _add(self, taken: Pass, *, scale: float = 1.0, losses: Tensor | None = None) -> Tensor | None:
        """Clip one pass and add it up; gives the (units,) norms, not finite for units that count as zero.

        Args:
          scale: what a unit's gradient in `taken` has to be multiplied by.
          losses: (units,) where they are not finite the unit counts as zero, whatever its gradient.
        """
        held = [
            (index, parameter, gradient)
            for index, parameter in enumerate(self.params)
            if (gradient := taken.gradients.pop(parameter, None)) is not None
        ]
        if not held:
            return None
        squares = torch.stack([gradient.squared_norms(taken.unit_rows) for _, _, gradient in held])
        squares *= scale**2
        norms = squares.sum(0).sqrt_()
        if losses is not None:
            norms += 0.0 * losses
        finite = torch.isfinite(norms)
        lost = None if bool(finite.all()) else ~finite
        flat = self._factors(norms, self.max_grad_norm)
        for (index, parameter, gradient), own in zip(held, squares, strict=True):
            factors = flat
            if self.max_grad_norms is not None:
                factors = torch.where(finite, self._factors(own.sqrt(), self.max_grad_norms[index]), 0.0)
            total = gradient.weighted_sum(factors * scale, taken.unit_rows, lost, parameter.summed_grad)
            parameter.summed_grad = total.view(parameter.shape)
        return norms

    def _factors(self, norms: Tensor, clip_norm: float) -> Tensor:
        if self._clipping is Clipping.AUTOMATIC:
            factors = clip_norm / (norms + _STABILITY)
            return torch.where(torch.isfinite(norms), factors, 0.0).float()
        return clip_factors(norms, clip_norm)

    def add_noise(self) -> None:
        """Write the sum and its noise to ``p.grad``: one new tensor a parameter and no other."""
        if self.secure_mode:
            super().add_noise()  # Opacus' remedy against floating-point attacks draws each sample from four
            return
        std = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            total = parameter.summed_grad
            _check_processed_flag(total)
            noise = torch.normal(0.0, std, total.shape, device=total.device, generator=self.generator)
            parameter.grad = noise.add_(total).to(parameter.dtype)
            _mark_as_processed(total)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Forget passes that were not clipped, ``p.grad`` and, unless a step was skipped, ``p.summed_grad``."""
        self._hooks.take_passes()
        super().zero_grad(set_to_none)
