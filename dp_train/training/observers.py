"""What follows the tensors of a run from inside its loop: after each release and after each update."""

from __future__ import annotations

from typing import Any, Protocol

from dp_train.engines.base import StepRecord
from dp_train.training.averaging import WeightAverage


class Observer(Protocol):
    """Follows the tensors of a run from inside the loop; everything that it sees but for releases is private.

    Scaling and the weight average are observers, and so is what watches a run for departures from its plan.
    """

    def after_release(self, record: StepRecord) -> None:
        """``p.grad`` holds the noisy gradient of the step, as the optimizer will read it."""
        return

    def after_update(self, record: StepRecord) -> None:
        """The optimizer has stepped: the trainable parameters are what the step leaves."""
        return


class Scaled(Observer):
    """Lets the scaling learn from releases."""

    def __init__(self, scaling: Any) -> None:
        self._scaling = scaling

    def after_release(self, record: StepRecord) -> None:
        self._scaling.observe()


class Averaged(Observer):
    """Takes the weights into the average after each step."""

    def __init__(self, average: WeightAverage) -> None:
        self._average = average

    def after_update(self, record: StepRecord) -> None:
        self._average.take()
