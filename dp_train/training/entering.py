"""Watch what enters a private run: the people that the plan's sampler draws, each whole, and no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from dp_train.engines.base import MicroBatch
from dp_train.engines.leaving import Notice, look_closely
from dp_train.privacy.draw_check import planned_draw
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.tasks.base import Row, Task

_LABELS = "labels"

LayOut = Callable[[Sequence[Row]], Mapping[str, Tensor]]
"""Rows of one unit → inputs, by the task's own `collate` or `collate_packed`."""


class EnteringWatch:
    """Compares what an engine was given with the draw, which is derived once more, and with the units' own rows.

    Guarantee: at every step as many units enter as were drawn. At the first steps and at random ones the draw is that
    of `privacy.draw_check`, and the labels that enter are, counted by token, those of the drawn units' rows. Where the
    units are dealt to several processes, each watches its own share of them (`training.dealing`).

    Args:
      units, seed: private. notice: takes each finding.
      task, lay_out: a copy of the run's task, which has seen none of its texts, and how it makes a unit's inputs.
    """

    def __init__(
        self, units: Units, task: Task, plan: PrivacyPlan, seed: bytes, *, lay_out: LayOut, notice: Notice
    ) -> None:
        self._units, self._task, self._plan = units, task, plan
        self._seed = seed
        self._lay_out = lay_out
        self._notice = notice
        self._steps = 0
        self.begin()

    def begin(self) -> None:
        """A step begins."""
        self._entered = 0
        self._labels: list[Tensor] | None = [] if look_closely(self._steps) else None

    def took(self, batch: MicroBatch) -> None:
        """Note a microbatch that the engine is given."""
        self._entered += batch.num_units
        if self._labels is not None and _LABELS in batch.inputs:
            self._labels.append(batch.inputs[_LABELS].detach().flatten().cpu())

    def end(self, step: int, draw: NDArray[Any], share: NDArray[Any], counted: int) -> None:
        """All microbatches of a step's `share` were given; `counted` is how many units of `draw` engines summed."""
        self._steps += 1
        if self._entered != len(share) or counted != len(draw):
            self._notice("a step did not sum the units that were drawn")
        if self._labels is None:
            return
        planned = planned_draw(self._plan, step, len(self._units), self._seed)
        if planned is None:
            return
        if planned != frozenset(draw.tolist()):
            self._notice("a step drew others than the planned sampler draws")
        elif not planned.issuperset(share.tolist()) or (
            self._labels and not torch.equal(_counts(self._labels), self._own_labels(share.tolist()))
        ):
            self._notice("the rows that entered a step are not those of the units that were drawn")

    def _own_labels(self, drawn: Sequence[int]) -> Tensor:
        inputs = (
            self._lay_out([Row(*tokens) for tokens in self._units.tokens(unit, self._task.encode)]) for unit in drawn
        )
        return _counts([one[_LABELS].flatten() for one in inputs if _LABELS in one])


def _counts(labels: Sequence[Tensor]) -> Tensor:
    """How often each token is a label, up to the largest; −100 and the like are no tokens."""
    together = torch.cat([*labels, torch.empty(0, dtype=torch.int64)]).long()
    return torch.bincount(together[together >= 0])
