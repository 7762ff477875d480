"""Opacus' hooks mode, with rows summed to units before the clip.

An Opacus extension: `UnitGradSampleHooks` hangs on the model without wrapping it, so `generate`, `save_pretrained`
and peft see the model itself; `UnitDPOptimizer` stands around the user's optimizer and is the place that clips and
adds noise. Its step hook feeds an Opacus accountant with what really ran.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from dp_train.engines.base import Clipping, EngineName, MicroBatch, RowLosses
from dp_train.engines.noise import NoiseSource
from dp_train.engines.opacus_engine import OpacusEngine, ReleasedOnce
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.engines.row_hooks import UnitGradSampleHooks
from dp_train.engines.scaling import Scaling
from dp_train.engines.units import (
    StepSum,
    UnitClip,
    check_losses,
    row_weights,
    squared_norms,
    sum_rows,
    trainable_parameters,
)
from dp_train.errors import ModelError
from dp_train.privacy.plan import PrivacyPlan

_AGREEMENT = 1e-3  # between two ways to one sum; a wrong rule is off by far more
_ROUNDING = 8  # ulps of the whole gradient, in any one tensor


class UnitDPOptimizer(ReleasedOnce, DPOptimizer):  # type: ignore[misc]
    """Opacus' optimizer with the two steps that decide privacy replaced: clip per unit, noise from a `NoiseSource`.

    Only its `pre_step` is used: it writes ``p.grad``, and the trainer steps the user's optimizer.

    Args:
      optimizer: the user's optimizer, over exactly the trainable parameters of the model.
      parameters: those parameters by name, in the order that numbers the noise streams.
      plan: clip norm, noise multiplier and divisor.
      noise: where noise comes from.
      clipping: how a unit is bounded.
      scaling: public factors on gradients, before the clip and undone after the noise.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        parameters: Mapping[str, nn.Parameter],
        plan: PrivacyPlan,
        noise: NoiseSource,
        clipping: Clipping,
        scaling: Scaling | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=plan.calibrated_noise_multiplier,
            max_grad_norm=plan.clip_norm,
            expected_batch_size=plan.expected_units,
            total=StepSum(list(parameters.values()), plan, noise, scaling, ranks),
            parameters=parameters,
        )
        self._clip = UnitClip.of(clipping, plan.clip_norm, len(parameters))
        self._scaling = scaling
        self._pending: tuple[MicroBatch, Tensor] | None = None

    @property
    def grad_samples(self) -> list[Tensor | None]:
        """Per-row gradients; None for a parameter that the microbatch did not reach."""
        return [getattr(parameter, "grad_sample", None) for parameter in self._sum.parameters]

    @property
    def accumulated_iterations(self) -> int:
        """Microbatches are summed as they come: for Opacus' accountants a step is one iteration."""
        return 1

    def take(self, batch: MicroBatch, losses: Tensor) -> None:
        """Clip and sum the units whose rows' gradients now hang on the parameters."""
        self._pending = (batch, losses)
        self.clip_and_accumulate()

    def clip_and_accumulate(self) -> None:
        """Sum rows to units, clip each unit, add to the step's sum."""
        if self._pending is None:
            return
        (batch, losses), self._pending = self._pending, None
        gradients = {
            index: self._stretched(index, _per_unit(rows.float(), batch))
            for index, rows in enumerate(self.grad_samples)
            if rows is not None
        }
        losses = sum_rows(losses.double() * row_weights(batch), batch)
        squares = {index: squared_norms(gradient) for index, gradient in gradients.items()}
        factors, norms = self._clip.factors(squares, losses)
        self._sum.tally.count(losses, norms, self.max_grad_norm)
        whole = bool(torch.isfinite(norms).all())
        for index, gradient in gradients.items():
            if not whole:
                gradient[factors[index] == 0] = 0.0  # 0 · NaN is NaN
            self._sum.add(index, torch.tensordot(factors[index], gradient, dims=1))

    def _stretched(self, index: int, gradients: Tensor) -> Tensor:
        scale = None if self._scaling is None else self._scaling.scales.get(self._sum.parameters[index])
        return gradients if scale is None else scale.stretch(gradients)


class HooksEngine(OpacusEngine):
    """Per-row gradients by Opacus' hooks, one backward pass a microbatch.

    Guarantee: that of `Engine`. A layer without a rule is refused by name when the engine is built. With
    the first microbatch, before anything is summed, two more things are checked: that each layer sees rows in its
    first dimension, and that per-row gradients add up to the ordinary gradient of every parameter, which finds
    parameters used outside their layer.

    Memory: rows × trainable parameters × 4 bytes, the price of the hooks mode.

    Args:
      functorch: compute layers that have no rule by `torch.func`, where they take one tensor and give one.
      clipping: how a unit's gradient is bounded by the plan's clip norm.

    Raises:
      ModelError: a layer has no rule; batch statistics; gradient checkpointing; optimizer over other parameters.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        row_losses: RowLosses,
        plan: PrivacyPlan,
        noise: NoiseSource,
        optimizer: torch.optim.Optimizer,
        functorch: bool = False,
        clipping: Clipping = Clipping.FLAT,
        scaling: Scaling | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.name = EngineName.FUNCTORCH if functorch else EngineName.HOOKS
        self._model = model
        self._row_losses = row_losses
        self._parameters = trainable_parameters(model)
        self._optimizer = UnitDPOptimizer(
            optimizer,
            parameters=self._parameters,
            plan=plan,
            noise=noise,
            clipping=clipping,
            scaling=scaling,
            ranks=ranks,
        )
        self._hooks = UnitGradSampleHooks(model, functorch=functorch)
        super().__init__(model, self._hooks, self._optimizer, plan)
        self._checked = False

    def accumulate(self, batch: MicroBatch) -> None:
        """Add the clipped gradients of the microbatch's units to the step's sum."""
        rows = batch.units.shape[0]
        if rows == 0:
            return
        if not self._checked:
            self._hooks.probe(lambda inputs: self._row_losses(self._model, inputs), batch.inputs)
        for parameter in self._parameters.values():
            parameter.grad = None
        try:
            with self._hooks.recording(rows):
                losses = check_losses(self._row_losses(self._model, batch.inputs), batch)
                (losses * row_weights(batch)).sum().backward()  # type: ignore[no-untyped-call]
                if not self._checked:
                    self._check_against_autograd()
                    self._checked = True
                self._optimizer.take(batch, losses.detach())
        finally:
            for parameter in self._parameters.values():
                parameter.grad = None

    def _check_against_autograd(self) -> None:
        """Per-row gradients must add up to the gradient that autograd found by itself."""
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for name, parameter in self._parameters.items():
            if parameter.grad is None:
                continue
            rows = getattr(parameter, "grad_sample", None)
            if rows is None:
                raise ModelError(
                    f"model: {name} is used outside its layer, where no hook sees it; "
                    "call the layer, or use engine naive"
                )
            ordinary, rows = parameter.grad.float(), rows.float()
            difference = torch.linalg.vector_norm(rows.sum(0) - ordinary)
            scale = squared_norms(rows).sqrt().sum() + torch.linalg.vector_norm(ordinary)
            found[name] = difference.double(), scale
        # A bias that a softmax cancels has rounding errors of its neighbours for a gradient.
        whole = torch.stack([scale for _, scale in found.values()]).sum()
        for name, (difference, scale) in found.items():
            rounding = _ROUNDING * torch.finfo(self._parameters[name].dtype).eps
            allowed = max(_AGREEMENT, rounding) * scale + rounding * whole
            if bool(torch.isfinite(difference) & (difference > allowed)):
                raise ModelError(
                    f"model: per-row gradients of {name} do not add up to its gradient; its layer is used in a way "
                    "that the rule for it does not cover; use engine naive"
                )


def _per_unit(rows: Tensor, batch: MicroBatch) -> Tensor:
    """(rows, …) → (num_units, …), without a copy where every unit has one row."""
    if batch.num_units == rows.shape[0]:
        order = torch.arange(batch.num_units, device=batch.units.device)
        if torch.equal(batch.units, order):
            return rows
    return sum_rows(rows, batch)
