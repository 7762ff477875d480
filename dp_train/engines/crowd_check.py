"""Does a unit stay itself in a crowd? Some couplings begin with many rows, or with one that is unlike the others.

A clip at a quantile of the batch, a batch that is left out where one loss is large, a mean from the ninth row on: three
rows alike show none of them. So many public units, very short and very long ones and strange ones among them, are taken

1. each alone: its loss, and its gradient clipped in float64 (`engines.reference`);
2. in companies of several sizes, with the losses that the model gives, with logits stretched so far that losses lie
   far apart, and with a token made so unlikely that one unit's loss is far above all others. No unit's loss may depend
   on who is there;
3. in the largest company, differentiated together under random weights: a gradient that holds a part of another unit's
   shows in their sum, also where the losses themselves are right;
4. in one step of the engine, whose sum has to be that of the units clipped alone.

All of it in training mode, dropout being its mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dp_train.engines.base import Clipping, MicroBatch, RowLosses
from dp_train.engines.company_check import means_of_units, training_without_dropout
from dp_train.engines.reference import Reference, UnitAlone, Values, norm_of
from dp_train.errors import ModelError

_AGREEMENT = 1e-3
_TRIED = 8  # units whose norms say where a clip norm bites
_SPREAD, _STRETCH = 20.0, 100.0  # std of logits that is aimed at, and the most that they are multiplied by
_IMPOSSIBLE = 1000.0  # nats

Step = Callable[[Sequence[MicroBatch], float, Clipping], Values]
"""(microbatches, clip norm, clipping) → the engine's sum of clipped gradients, by parameter."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Public units and the companies in which they are looked at.

    Attributes:
      alone: unit → a microbatch of it by itself, padded to its own length.
      companies: microbatches of several sizes whose `drawn` names their units, the largest company last.
    """

    alone: Mapping[int, MicroBatch]
    companies: Sequence[Sequence[MicroBatch]]


def crowd_check(
    reference: Reference,
    row_losses: RowLosses,
    crowd: Crowd,
    *,
    clipping: Clipping,
    clip_norm: float,
    rounding: float,
    step: Step,
    engine: str,
) -> None:
    """Compare units of a crowd with themselves alone.

    Args:
      clip_norm: the run's; a smaller one is used where it clips nothing.
      rounding: relative difference of two ways to compute one number, of the types that layers compute in.
      step: one step of the engine. engine: its name.

    Raises:
      ModelError: a unit's loss or gradient is another in company; the engine's sum is not that of the units alone.
    """
    check = _CrowdCheck(reference, row_losses, crowd, max(_AGREEMENT, rounding))
    with training_without_dropout(reference.model), torch.autograd.set_multithreading_enabled(False):
        check.as_they_are(step, clipping, clip_norm, engine)
        with _logits(reference.model, _far_apart):
            check.losses_of(check.some(), ", where losses are far apart")
        if (rare := _rarest_label(crowd)) is not None:
            with _logits(reference.model, lambda logits: _without(logits, rare[0])):
                check.losses_of(check.some(rare[1]), ", where one loss is far above the others")


class _CrowdCheck:
    def __init__(self, reference: Reference, row_losses: RowLosses, crowd: Crowd, rounding: float) -> None:
        self._reference, self._row_losses, self._crowd, self._rounding = reference, row_losses, crowd, rounding
        for batch in (batch for company in crowd.companies for batch in company):
            if len(batch.drawn) != batch.num_units:
                raise ModelError(
                    f"self-check: {len(batch.drawn)} units alone are {batch.num_units} in company; expected as many; "
                    "a unit must not be split over microbatches or rows"
                )

    def some(self, *also: int) -> list[int]:
        """A few units from all over the crowd, the strange and the long ones among them."""
        units = list(self._crowd.alone)
        return sorted({*units[:: max(1, len(units) // _TRIED)], units[-1], *also})

    def losses_of(self, units: Sequence[int], when: str) -> None:
        """The losses of some units do not depend on their company."""
        self._compare_losses({unit: self._loss(unit) for unit in units}, when)

    @torch.no_grad()
    def _loss(self, unit: int) -> float:
        batch = self._crowd.alone[unit]
        return float(means_of_units(self._row_losses(self._reference.model, batch.inputs), batch)[0])

    @torch.no_grad()
    def _compare_losses(self, own: Mapping[int, float], when: str) -> None:
        for batch in (batch for company in self._crowd.companies for batch in company):
            if own.keys().isdisjoint(batch.drawn):
                continue
            found = means_of_units(self._row_losses(self._reference.model, batch.inputs), batch).tolist()
            for unit, loss in zip(batch.drawn, found, strict=True):
                if unit in own and not _close(loss, own[unit], self._rounding):
                    raise ModelError(
                        f"self-check: the loss of a row is {loss:.4g} beside {len(batch.units) - 1} other rows and "
                        f"{own[unit]:.4g} alone{when}; expected a row's loss to depend on that row alone; take no "
                        "mean, quantile or other figure of the batch, in task or model"
                    )

    def as_they_are(self, step: Step, clipping: Clipping, clip_norm: float, engine: str) -> None:
        """Losses in every company; gradients in the largest: under random weights, through the engine, and alone."""
        batches, reference = self._crowd.companies[-1], self._reference
        units = [unit for batch in batches for unit in batch.drawn]
        bound = self._bound(units, clip_norm)
        weights = _random_weights(units)
        apart = self._together(batches, weights)
        expected = {key: torch.zeros_like(gradient) for key, gradient in apart.items()}
        raw, own, bounded = (dict.fromkeys(reference.parameters, 0.0) for _ in range(3))
        losses = {unit: self._loss(unit) for unit in self._crowd.alone.keys() - set(units)}
        for unit in units:
            alone = self._alone(unit)
            losses[unit] = alone.loss
            for key, gradient in alone.gradient.items():
                scale = reference.scale(key)
                plain = gradient if scale is None else gradient / scale
                apart[key] -= weights[unit] * plain
                own[key] += weights[unit] ** 2 * norm_of([plain]) ** 2
                raw[key] += norm_of([gradient])
            for key, gradient in reference.clipped(alone, bound, clipping).items():
                expected[key] += gradient
                bounded[key] += norm_of([gradient]) ** 2
        self._compare_losses(losses, "")
        whole, whole_bounded = math.sqrt(sum(own.values())), math.sqrt(sum(bounded.values()))
        for key in reference.parameters:
            if not norm_of([apart[key]]) <= 4 * self._rounding * (math.sqrt(own[key]) + 0.01 * whole):
                raise ModelError(
                    f"self-check: the gradient of {key} by {len(units)} units together is not that of each alone; "
                    "expected a row's loss to depend on that row alone; take no figure of the batch, in task or model"
                )
        summed = step(batches, bound, clipping)
        for key in reference.parameters:
            # Rounding errors alone, as of a bias that a softmax cancels: clipped by themselves they are anything.
            if raw[key] <= self._rounding * sum(raw.values()):
                continue
            off, size = norm_of([summed[key] - expected[key]]), norm_of([expected[key]]) + math.sqrt(bounded[key])
            if not off <= self._rounding * (size + whole_bounded):
                raise ModelError(
                    f"self-check: engine {engine}, {key}: the clipped sum of {len(units)} units is {off:.2g} away from "
                    "that of the units alone; expected each unit to be clipped by its own norm; use engine naive"
                )

    def _together(self, batches: Sequence[MicroBatch], weights: Mapping[int, float]) -> dict[str, Tensor]:
        """Gradient of the weighted sum of the units' losses in company, float32."""
        parameters = self._reference.parameters
        total = {key: torch.zeros_like(parameter, dtype=torch.float32) for key, parameter in parameters.items()}
        for batch in batches:
            losses = means_of_units(self._row_losses(self._reference.model, batch.inputs), batch)
            weighted = (losses * losses.new_tensor([weights[unit] for unit in batch.drawn])).sum()
            found = torch.autograd.grad(weighted, list(parameters.values()), allow_unused=True)
            for key, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    total[key] += gradient.float()
        return total

    def _bound(self, units: Sequence[int], clip_norm: float) -> float:
        """The run's clip norm, or so much less that most units reach it and some do not."""
        norms = sorted(self._alone(unit).norm for unit in units[:: max(1, len(units) // _TRIED)])
        return min(clip_norm, norms[len(norms) // 4] or clip_norm)

    def _alone(self, unit: int) -> UnitAlone:
        return self._reference.take(self._crowd.alone[unit], self._row_losses)


def _random_weights(units: Sequence[int]) -> dict[int, float]:
    """A weight in ±[0.5, 1.5] for each unit."""
    random = torch.Generator().manual_seed(0)
    signs = 2 * torch.randint(2, (len(units),), generator=random) - 1
    sizes = 0.5 + torch.rand(len(units), generator=random)
    return dict(zip(units, (signs * sizes).tolist(), strict=True))


def _close(one: float, other: float, rounding: float) -> bool:
    return abs(one - other) <= rounding * (1 + max(abs(one), abs(other)))


@contextmanager
def _logits(model: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, the model gives other logits. One that gives neither a tensor nor `logits` is left as it is."""

    def put(_module: nn.Module, _inputs: object, output: object) -> object:
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.dim() < 2:
            return None
        if isinstance(output, Tensor):
            return change(logits)
        output.logits = change(logits)  # type: ignore[attr-defined]
        return output

    handle = model.register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


def _far_apart(logits: Tensor) -> Tensor:
    """Each place's logits stretched to a spread of about 20: some targets are then sure, and some nearly impossible."""
    spread = logits.float().std(-1, keepdim=True)
    factor = (_SPREAD / spread).nan_to_num(1.0, posinf=1.0).clamp(1.0, _STRETCH)
    return (logits * factor).to(logits.dtype)


def _without(logits: Tensor, token: int) -> Tensor:
    """The logits of one token lowered far below the others."""
    lowered = logits.clone()
    if token < lowered.shape[-1]:
        lowered[..., token] -= _IMPOSSIBLE
    return lowered


def _rarest_label(crowd: Crowd) -> tuple[int, int] | None:
    """The token that the fewest units of the largest company have to predict, and the unit that has most of it."""
    holders: dict[int, list[tuple[int, int]]] = {}
    for unit in (unit for batch in crowd.companies[-1] for unit in batch.drawn):
        labels = crowd.alone[unit].inputs.get("labels")
        if labels is not None:
            tokens, times = torch.unique(labels[labels >= 0], return_counts=True)
            for token, count in zip(tokens.tolist(), times.tolist(), strict=True):
                holders.setdefault(int(token), []).append((int(count), unit))
    if not holders:
        return None
    token = min(holders, key=lambda one: (len(holders[one]), -max(holders[one])[0], one))
    return token, max(holders[token])[1]
