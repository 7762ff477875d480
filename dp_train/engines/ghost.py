"""Opacus' ghost mode: norms without per-row gradients, then a second backward pass of the reweighted losses.

Opacus' own norm rules (`GradSampleHooksFastGradientClipping`), behind the same checks as its hooks mode here. It takes
norms of rows and of each use of a weight by itself, so it goes with one row a unit and untied weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from opacus.grad_sample import GradSampleHooksFastGradientClipping
from torch import Tensor, nn

from dp_train.engines.base import Clipping, EngineName, MicroBatch, RowLosses
from dp_train.engines.hooks import UnitDPOptimizer
from dp_train.engines.layer_rules import layer_rule
from dp_train.engines.noise import NoiseSource
from dp_train.engines.opacus_engine import OpacusEngine
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.engines.row_hooks import UnitGradSampleHooks
from dp_train.engines.units import check_losses, squared_norms, trainable_parameters
from dp_train.errors import ModelError, PlanError
from dp_train.privacy.plan import PrivacyPlan

_AGREEMENT = 1e-3  # between two float32 ways to one norm; a wrong rule is off by far more
_CHECKED_ROWS = 3


class GhostHooks(UnitGradSampleHooks):
    """Per-row squared norms of every trainable parameter, while `recording`; no per-row gradients of large layers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.squares: dict[nn.Parameter, Tensor] = {}

    def _take_output_gradient(self, module: nn.Module, tensors: list[Tensor], gradient: Tensor) -> None:
        if not self.hooks_enabled:
            return
        for parameter, squares in _row_squares(module, tensors, gradient.detach().float()).items():
            if not parameter.requires_grad:
                continue
            if parameter in self.squares:
                raise ModelError(
                    f"model: layer {self._names[module]} is used twice in a forward pass, whose products Opacus' ghost "
                    "clipping leaves out; use engine bookkeeping"
                )
            self.squares[parameter] = squares

    def _forget(self) -> None:
        super()._forget()
        self.squares = {}


class GhostDPOptimizer(UnitDPOptimizer):
    """`UnitDPOptimizer` over gradients that the second backward pass has clipped."""

    def row_factors(self, squares: Mapping[nn.Parameter, Tensor], losses: Tensor) -> tuple[Tensor, Tensor]:
        """(rows,) float32 factors and (rows,) float64 norms, not finite for rows that count as zero."""
        norms = self._clip.norms(dict(enumerate(squares.values())), losses)
        return self._clip.whole(norms), norms

    def count(self, losses: Tensor, norms: Tensor, *, in_order: bool = True) -> None:
        """Note units and losses for the record."""
        self._sum.tally.count(losses, norms, self.max_grad_norm)
        self._sum.tally.in_order &= in_order

    def take_gradients(self) -> None:
        """Add ``p.grad``, the clipped sum of a microbatch, to the step's."""
        for index, parameter in enumerate(self._sum.parameters):
            if parameter.grad is not None:
                self._sum.add(index, parameter.grad)


class GhostEngine(OpacusEngine):
    """Opacus' ghost clipping, two backward passes a microbatch: for comparison.

    Guarantee: that of `Engine`. With the first microbatch, before anything is summed, the norms of a few rows are
    compared with autograd.

    Args:
      clipping: FLAT or AUTOMATIC: the second pass has one factor a row.

    Raises:
      PlanError: rows_per_unit > 1, or clipping by layer.
      ModelError: tied weights; parameters that are not float32; what `HooksEngine` refuses.
    """

    name = EngineName.GHOST

    def __init__(
        self,
        *,
        model: nn.Module,
        row_losses: RowLosses,
        plan: PrivacyPlan,
        noise: NoiseSource,
        optimizer: torch.optim.Optimizer,
        clipping: Clipping = Clipping.FLAT,
        ranks: Ranks = ALONE,
    ) -> None:
        if plan.rows_per_unit > 1:
            raise PlanError(
                f"engine ghost: Opacus' ghost clipping takes norms of rows and the plan has rows_per_unit="
                f"{plan.rows_per_unit}; use engine bookkeeping, or rows_per_unit=1"
            )
        if clipping is Clipping.PER_LAYER:
            raise PlanError("engine ghost: clips a row by one factor; use clipping FLAT or AUTOMATIC")
        self._model = model
        self._row_losses = row_losses
        self._parameters = trainable_parameters(model)
        _refuse_what_ghost_cannot(model)
        self._optimizer = GhostDPOptimizer(
            optimizer, parameters=self._parameters, plan=plan, noise=noise, clipping=clipping, ranks=ranks
        )
        self._hooks = GhostHooks(model)
        super().__init__(model, self._hooks, self._optimizer, plan)
        self._checked = False

    def accumulate(self, batch: MicroBatch) -> None:
        """Add the clipped gradients of the microbatch's units, one row each, to the step's sum."""
        rows = batch.units.shape[0]
        if batch.num_units != rows or len(batch.units.unique()) != rows:  # type: ignore[no-untyped-call]
            raise PlanError(
                f"engine ghost: a microbatch has {rows} rows of {batch.num_units} units; expected one row a unit; "
                "use engine bookkeeping"
            )
        if rows == 0:
            return
        if not self._checked:
            self._hooks.probe(lambda inputs: self._row_losses(self._model, inputs), batch.inputs)
        try:
            kept = self._backward_twice(batch)
        finally:
            self._clear()
        if kept is not None:
            self.accumulate(kept)

    def _backward_twice(self, batch: MicroBatch) -> MicroBatch | None:
        """Norms, then the clipped sum; or, where rows are not finite, the others, with nothing summed."""
        self._clear()
        with self._hooks.recording(batch.units.shape[0]):
            losses = check_losses(self._row_losses(self._model, batch.inputs), batch)
            losses.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
            squares = self._hooks.squares
        for name, parameter in self._parameters.items():
            if parameter.grad is not None and parameter not in squares:
                raise ModelError(
                    f"model: {name} is used outside its layer, where no hook sees it; "
                    "call the layer, or use engine naive"
                )
        self._clear()
        of_rows = losses.detach().double()
        factors, norms = self._optimizer.row_factors(squares, of_rows)
        finite = torch.isfinite(norms)
        if not bool(finite.all()):  # 0 · NaN is NaN: the second pass must not see such a row
            self._optimizer.count(of_rows[~finite], norms[~finite], in_order=False)
            return batch.only(batch.units[finite].tolist())
        if not self._checked:
            self._check_against_autograd(losses, squares)
            self._checked = True
        (losses * factors).sum().backward()  # type: ignore[no-untyped-call]
        self._optimizer.take_gradients()
        self._optimizer.count(of_rows, norms)
        return None

    def _check_against_autograd(self, losses: Tensor, squares: Mapping[nn.Parameter, Tensor]) -> None:
        for row in range(min(_CHECKED_ROWS, losses.shape[0])):
            found = torch.autograd.grad(
                losses[row], list(self._parameters.values()), retain_graph=True, allow_unused=True
            )
            expected = {
                name: 0.0 if gradient is None else float(gradient.double().norm())
                for name, gradient in zip(self._parameters, found, strict=True)
            }
            whole = sum(norm**2 for norm in expected.values()) ** 0.5
            for name, parameter in self._parameters.items():
                norm = float(squares[parameter][row].sqrt()) if parameter in squares else 0.0
                if abs(norm - expected[name]) > _AGREEMENT * (expected[name] + 0.1 * whole):
                    raise ModelError(
                        f"model: the norm of {name} is not that of its row's gradient; its layer is used in a way that "
                        "the rule for it does not cover, or rows depend on each other; use engine naive"
                    )

    def _clear(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None


def _row_squares(module: Any, tensors: list[Tensor], gradient: Tensor) -> dict[nn.Parameter, Tensor]:
    """(rows,) float64 squared norms, by Opacus' rule for norms where it has one, else from per-row gradients."""
    rule = GradSampleHooksFastGradientClipping.NORM_SAMPLERS.get(type(module))
    if rule is None:
        by_row = layer_rule(module)
        assert by_row is not None  # the hooks refuse a layer without one
        return {parameter: squared_norms(rows.float()) for parameter, rows in by_row(module, tensors, gradient).items()}
    if isinstance(module, nn.Embedding):
        if module.padding_idx is not None:  # Opacus' rule counts it, torch gives it no gradient
            ids = tensors[0].reshape(gradient.shape[:-1])
            gradient = gradient.masked_fill((ids == module.padding_idx)[..., None], 0.0)
        tensors = [tensors[0].contiguous()]  # positions that broadcast are a view, and Opacus' rule wants none
    elif gradient.dim() > 3:
        tensors, gradient = [tensors[0].flatten(1, -2)], gradient.flatten(1, -2)
    return {parameter: norms.double().square() for parameter, norms in rule(module, tensors, gradient).items()}


def _refuse_what_ghost_cannot(model: nn.Module) -> None:
    owners: dict[nn.Parameter, str] = {}
    for layer, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=layer, recurse=False):
            if not parameter.requires_grad:
                continue
            if parameter in owners:
                raise ModelError(
                    f"model: {name} is tied to {owners[parameter]}, which Opacus' ghost clipping does not support; "
                    "use engine bookkeeping, or untie them"
                )
            if parameter.dtype != torch.float32:
                raise ModelError(
                    f"model: {name} is {parameter.dtype}, and the second pass of ghost clipping would sum in it; "
                    "expected float32; use engine bookkeeping"
                )
            owners[parameter] = name
