"""Book-keeping DP-SGD (Bu et al. 2022, arXiv 2210.00038): one backward pass, without ordinary weight gradients.

1. hooks keep each layer's input and output gradient (`bookkeeping_hooks`, rules in `bookkeeping_rules`), joined by
   parameter (`bookkeeping_pass`);
2. each unit's norm comes from them, by Gram matrices or small per-unit gradients (`bookkeeping_factors`);
3. the clipped sum is one weighted product a layer (`bookkeeping_clip`);
4. once a step the sum is noised, divided and written to ``p.grad``.

An Opacus extension, as the hooks engine is: `AbstractGradSampleHooks` on the model without wrapping it, `DPOptimizer`
around the user's optimizer, and `bookkeeping_opacus` offers both to any Opacus user.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dp_train.engines.base import Clipping, EngineName, MicroBatch, RowLosses, StepRecord
from dp_train.engines.bookkeeping_check import agrees_with_autograd, refuse_uses_outside_layers
from dp_train.engines.bookkeeping_clip import BookkeepingOptimizer
from dp_train.engines.bookkeeping_factors import UnitGradient, UnitRows
from dp_train.engines.bookkeeping_hooks import BookkeepingHooks
from dp_train.engines.bookkeeping_pass import Pass
from dp_train.engines.noise import NoiseSource
from dp_train.engines.opacus_engine import OpacusEngine, ReleasedOnce
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.engines.scaling import Scaling
from dp_train.engines.units import StepSum, UnitClip, check_losses, row_weights, trainable_parameters
from dp_train.errors import ModelError
from dp_train.privacy.plan import PrivacyPlan


class UnitBookkeepingOptimizer(ReleasedOnce, BookkeepingOptimizer):
    """`BookkeepingOptimizer` over units instead of rows, with noise from a `NoiseSource` and a public divisor.

    Only its `pre_step` is used: it writes ``p.grad``, and the trainer steps the user's optimizer.

    Args:
      optimizer: the user's, over exactly the trainable parameters of the model.
      hooks: attached to that model.
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
        hooks: BookkeepingHooks,
        parameters: Mapping[str, nn.Parameter],
        plan: PrivacyPlan,
        noise: NoiseSource,
        clipping: Clipping,
        scaling: Scaling | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        bounds = UnitClip.of(clipping, plan.clip_norm, len(parameters)).bounds
        super().__init__(
            optimizer,
            hooks=hooks,
            max_grad_norm=bounds if clipping is Clipping.PER_LAYER else plan.clip_norm,
            clipping=clipping,
            noise_multiplier=plan.calibrated_noise_multiplier,
            expected_batch_size=plan.expected_units,
            total=StepSum(list(parameters.values()), plan, noise, scaling, ranks),
            parameters=parameters,
        )
        self._clip_norm = plan.clip_norm
        self._pending: tuple[Pass, Tensor] | None = None
        self._index = {parameter: index for index, parameter in enumerate(self.params)}
        self._squares: Tensor | None = None  # (units,) of the tensors that were clipped during the backward pass

    def clip_in_backward(self, taken: Pass, losses: Tensor) -> None:
        """Clip and sum each tensor as soon as its gradient is known, so that its factors are not kept: PER_LAYER.

        Args:
          losses: (units,) float64 mean losses.
        """
        if self._clip.clipping is not Clipping.PER_LAYER or self._hooks.recomputes:
            return
        self._squares = total = torch.zeros_like(losses)

        def add(parameter: nn.Parameter, gradient: UnitGradient) -> None:
            index, squares = self._index[parameter], gradient.squared_norms(taken.unit_rows)
            self._add_tensor(index, gradient, self._clip.tensor(index, squares.sqrt(), losses), taken.unit_rows)
            total.add_(squares)

        taken.on_complete = add

    def take(self, taken: Pass, losses: Tensor) -> None:
        """Clip and sum the units of a pass. `losses`: (units,) mean losses."""
        self._pending = (taken, losses)
        self.clip_and_accumulate()

    def clip_and_accumulate(self) -> None:
        """Add the clipped sum of the pass in hand, if there is one, to ``p.summed_grad``."""
        if self._pending is None:
            return
        (taken, losses), self._pending = self._pending, None
        norms = self._add(taken, losses=losses)
        if self._squares is not None:
            norms, self._squares = (norms.square() + self._squares).sqrt(), None
        self._sum.tally.count(losses, norms, self._clip_norm)

    def add_noise(self) -> None:
        """Noise each sum once and write it, divided by the public `expected_units`, to ``p.grad``."""
        for index, parameter in enumerate(self._sum.parameters):
            if parameter.summed_grad is not None:  # type: ignore[attr-defined]
                self._sum.add(index, parameter.summed_grad)  # type: ignore[attr-defined]
                parameter.summed_grad = None  # type: ignore[attr-defined]
        super().add_noise()


class BookkeepingEngine(OpacusEngine):
    """Clipped sums at nearly the price of ordinary gradients.

    Guarantee: that of `Engine`. A layer without a rule is refused by name when the engine is built; with the first
    microbatch, before anything is released, the sums and a norm are compared with autograd, and at every
    microbatch parameters that are used outside their layer are found.

    Memory: each layer's input and output gradient until the microbatch ends, and one float32 copy of the trainable
    parameters. Nothing of size units × parameters, except for layers whose gradient is smaller than those (LoRA) and
    layers with Opacus' per-row rules alone (convolutions).

    Args:
      model: on the device to train on; bf16 autocast and gradient checkpointing work. Norms and sums are float32.
      clipping: how a unit's gradient is bounded by the plan's clip norm.
      scaling: public factors on gradients, before the clip and undone after the noise.

    Raises:
      ModelError: no rule for a layer; nothing trainable; optimizer over other parameters.
    """

    name = EngineName.BOOKKEEPING

    def __init__(
        self,
        *,
        model: nn.Module,
        row_losses: RowLosses,
        plan: PrivacyPlan,
        noise: NoiseSource,
        optimizer: torch.optim.Optimizer,
        clipping: Clipping = Clipping.FLAT,
        scaling: Scaling | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._model = model
        self._scaling = scaling
        self._row_losses = row_losses
        self._parameters = trainable_parameters(model)
        self._hooks = BookkeepingHooks(model, loss_reduction="sum", everywhere=True)
        self._hooks.enabled = False
        self._optimizer = UnitBookkeepingOptimizer(
            optimizer,
            hooks=self._hooks,
            parameters=self._parameters,
            plan=plan,
            noise=noise,
            clipping=clipping,
            scaling=scaling,
            ranks=ranks,
        )
        super().__init__(model, self._hooks, self._optimizer, plan)
        self._checked = False
        self._spoiled = False

    def accumulate(self, batch: MicroBatch) -> None:
        """Add the clipped gradients of the microbatch's units to the step's sum."""
        self._refuse_spoiled()
        if batch.num_units == 0:
            return
        for parameter in self._parameters.values():
            parameter.grad = None
        if not self._checked:
            self._hooks.probe(lambda inputs: self._row_losses(self._model, inputs), batch.inputs)
            self._checked = agrees_with_autograd(self._hooks, self._model, self._row_losses, batch, self._parameters)
        unit_rows = UnitRows(batch.units, batch.num_units)
        weights = row_weights(batch)
        scales = None if self._scaling is None else self._scaling.scales
        with self._hooks.recording(unit_rows, scales) as taken:
            losses = check_losses(self._row_losses(self._model, batch.inputs), batch)
            of_units = unit_rows.sum_rows((losses.detach() * weights).double())
            self._optimizer.clip_in_backward(taken, of_units)
            try:
                (losses * weights).sum().backward()  # type: ignore[no-untyped-call]
                refuse_uses_outside_layers(self._parameters)
            except BaseException:
                self._spoiled = taken.on_complete is not None
                raise
        self._optimizer.take(taken, of_units)

    def release(self, step: int) -> StepRecord:
        """Noise, divide, write ``p.grad``; Opacus' step hook hears of it."""
        self._refuse_spoiled()
        return super().release(step)

    def _refuse_spoiled(self) -> None:
        """Counted again, units of a microbatch that is in the sum by half would move it by more than the clip norm."""
        if self._spoiled:
            raise ModelError(
                "engine: a backward pass broke off with a part of its microbatch in the sum; "
                "detach this engine and build a new one"
            )
