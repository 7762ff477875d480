"""While a run goes on: is a unit in its step what it is alone?

The self-check knows public rows alone, and code may do otherwise later or with other rows. So at some steps one of the
units that were drawn is taken alone, by plain autograd and a fresh copy of the task, before the optimizer steps: its
loss and the norm that it was clipped by have to be those that the engine had of it in company.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dp_train.engines.as_found import noted_precision
from dp_train.engines.base import MicroBatch, RowLosses, StepRecord
from dp_train.engines.company_check import means_of_units, training_without_dropout
from dp_train.engines.leaving import Notice, look_closely
from dp_train.engines.reference import Reference, UnitAlone

_AGREEMENT, _ROUNDING = 4e-3, 32.0

Alone = Callable[[int], MicroBatch]
"""A unit of the run → a microbatch of it alone."""


@dataclass(slots=True)
class CompanyWatch:
    """Takes one unit alone at the first steps and at random ones.

    Guarantee: at those steps one unit, drawn at random or that of the largest loss by turns, had in company the loss
    and the gradient norm that it has alone, up to rounding. With dropout, whose masks nobody can draw again for one
    row, its loss and norm in a second pass of its microbatch without dropout are compared instead.

    Args:
      row_losses, alone: of a copy of the task that has seen none of the run's texts. notice: takes each finding.
    """

    reference: Reference
    in_company: RowLosses
    row_losses: RowLosses
    alone: Alone
    clip_norm: float
    notice: Notice
    _steps: int = 0
    _batches: list[MicroBatch] | None = None
    _looks: int = 0

    def begin(self) -> None:
        """A step begins."""
        self._batches = [] if look_closely(self._steps) else None
        self._steps += 1

    def took(self, batch: MicroBatch) -> None:
        """Note a microbatch that the engine is given."""
        if self._batches is not None:
            self._batches.append(batch)

    def released(self, record: StepRecord) -> None:
        """The engine released the step; weights are still those that it was computed with."""
        batches, self._batches = self._batches, None
        if not batches or record.unit_losses is None or record.unit_norms is None:
            return
        units = [unit for batch in batches for unit in batch.drawn]
        if len(units) != len(record.unit_losses):
            return  # `EnteringWatch` counts
        self._looks += 1
        place = self._place(record.unit_losses)
        losses, norms = record.unit_losses[place].item(), record.unit_norms[place].item()
        with (
            torch.random.fork_rng(),
            noted_precision() as coarsest,
            training_without_dropout(self.reference.model) as dropout,
        ):
            own = self.reference.take(self.alone(units[place]), self.row_losses)
            if dropout.active:
                other = self._again(batches, place)
                losses, norms = other.loss, other.norm
        rounding = max(_AGREEMENT, _ROUNDING * max(coarsest))
        if not (_close(losses, own.loss, rounding, 1.0) and _close(norms, own.norm, rounding, self.clip_norm)):
            self.notice("a unit's loss or gradient in company was not what it is alone")

    def _place(self, losses: torch.Tensor) -> int:
        if self._looks % 2:
            return secrets.randbelow(len(losses))
        return int(losses.nan_to_num(math.inf).argmax())

    def _again(self, batches: Sequence[MicroBatch], place: int) -> UnitAlone:
        """The unit once more in company."""
        for batch in batches:
            if place < batch.num_units:
                losses = self.in_company(self.reference.model, batch.inputs)
                return self.reference.of_loss(means_of_units(losses, batch)[place])
            place -= batch.num_units
        raise AssertionError("a unit of no microbatch")


def _close(one: float, other: float, rounding: float, size: float) -> bool:
    if not math.isfinite(one) or not math.isfinite(other):
        return math.isfinite(one) == math.isfinite(other)
    return abs(one - other) <= rounding * (size + max(abs(one), abs(other)))
