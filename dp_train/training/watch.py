"""Watches a private run while it goes on, from outside its engine: what enters, what leaves, what has to stay.

    watch.begin()                          a step begins
    watch.took(batch)                      for each microbatch that the engine accumulates
    watch.released(record, draw)           before the optimizer steps
    watch.stepped()                        after it did
    watch.checkpoint() · watch.finish()    now and then, and before anything is done to the last weights
    watch.detach()                         on every way out

What it finds withholds the claim. Without privacy there is nothing to claim, and it looks at nothing.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import nn, optim

from dp_train.engines.base import MicroBatch, StepRecord
from dp_train.engines.leaving import LeavingWatch, StillTensors, look_closely
from dp_train.engines.noise import NoiseSource
from dp_train.privacy.monitor import RunMonitor
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.tasks.base import Task
from dp_train.training.entering import EnteringWatch, LayOut
from dp_train.training.optimizers import Schedule


class RunWatch:
    """`LeavingWatch`, `StillTensors` and `EnteringWatch` of one run, all of whose findings go to its monitor.

    Args:
      optimizer: as it starts or resumes, with its base rates. schedule: evaluated for all steps here and now.
      seed: of the sampling stream; private. lay_out: how a unit's rows become inputs.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: optim.Optimizer,
        schedule: Schedule,
        plan: PrivacyPlan,
        units: Units,
        task: Task,
        seed: bytes,
        lay_out: LayOut,
        monitor: RunMonitor,
    ) -> None:
        self._active = plan.private
        self._steps = 0
        if not self._active:
            return
        self._leaving = LeavingWatch(
            optimizer,
            rates=[schedule(step, plan.steps) for step in range(plan.steps)],
            releases_curve=plan.loss_noise_ratio is not None,
            notice=monitor.depart,
        )
        self._still = StillTensors(model, monitor.depart)
        monitor.begin_with(self._still.digest)
        self._entering = EnteringWatch(units, task, plan, seed, lay_out=lay_out, notice=monitor.depart)

    def counted(self, noise: NoiseSource) -> NoiseSource:
        """The noise source to give to the engine."""
        return self._leaving.counted(noise) if self._active else noise

    def begin(self) -> None:
        """A step begins."""
        if self._active:
            self._entering.begin()

    def took(self, batch: MicroBatch) -> None:
        """The engine is given a microbatch."""
        if self._active:
            self._entering.took(batch)

    def released(self, record: StepRecord, draw: NDArray[Any]) -> None:
        """The engine released the sum of `draw`; the optimizer has not stepped yet."""
        if self._active:
            self._entering.end(record.step, draw, record.units)
            self._leaving.released(record)

    def stepped(self) -> None:
        """The optimizer stepped."""
        if self._active:
            self._leaving.stepped()
            if look_closely(self._steps):
                self._still.glance()
        self._steps += 1

    def checkpoint(self) -> None:
        """Look at all that is cheap, before the state is written."""
        if self._active:
            self._leaving.look()
            self._still.look()

    def finish(self) -> None:
        """Look at everything, before an average is written into the model."""
        if self._active:
            self._leaving.look()
            self._still.look(whole=True)

    def detach(self) -> None:
        """Take the hooks off the optimizer."""
        if self._active:
            self._leaving.detach()
