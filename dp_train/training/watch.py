"""Watches a private run while it goes on, from outside its engine: what enters, what leaves, what has to stay.

    watch.begin()                          a step begins
    watch.took(batch)                      for each microbatch that the engine accumulates
    watch.released(record, draw, share)    before the optimizer steps
    watch.stepped()                        after it did
    with watch.held(whole=…):              around what is called from outside: it may look, and change nothing
    watch.checkpoint() · watch.finish()    now and then, and before anything is done to the last weights
    watch.detach()                         on every way out

What it finds withholds the claim. Without privacy there is nothing to claim, and it looks at nothing. Where several
processes share the steps, each watches the units that entered it and its own model; the noise and the release are
watched whole in every one, and what any of them finds withholds the claim of all (`RunState.agree`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import optim

from dp_train.engines.base import MicroBatch, StepRecord
from dp_train.engines.company_watch import CompanyWatch
from dp_train.engines.leaving import HeldWeights, LeavingWatch, StillSettings, StillTensors, look_closely
from dp_train.engines.noise import NoiseSource
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.engines.reference import Reference
from dp_train.engines.units import trainable_parameters
from dp_train.privacy.monitor import RunMonitor
from dp_train.privacy.units import Units
from dp_train.tasks.base import Row
from dp_train.training.entering import EnteringWatch
from dp_train.training.method import Setup


class RunWatch:
    """All that watches one run; whatever it finds goes to the run's monitor.

    Args:
      optimizer: as it starts or resumes, with its base rates. schedule: evaluated for all steps here and now.
      seed: of the sampling stream; private.
      twin: the run's setup with a copy of its task that has seen none of its texts.
      setup: the run's own. ranks: the processes that share its steps.

    Attributes:
      findings: how many there were.
    """

    def __init__(
        self,
        *,
        setup: Setup,
        twin: Setup,
        optimizer: optim.Optimizer,
        units: Units,
        seed: bytes,
        monitor: RunMonitor,
        ranks: Ranks = ALONE,
    ) -> None:
        plan, model, schedule = setup.plan, setup.model, setup.method.schedule
        self._active, self._monitor = plan.private, monitor
        self.findings = 0
        self._steps = 0
        if not self._active:
            return
        self._leaving = LeavingWatch(
            optimizer,
            rates=[schedule(step, plan.steps) for step in range(plan.steps)],
            releases_curve=plan.loss_noise_ratio is not None,
            notice=self._note,
            ranks=ranks,
        )
        self._model = model
        self._still, self._settings = StillTensors(model, self._note), StillSettings(model, self._note)
        monitor.begin_with(self._still.digest)
        self._entering = EnteringWatch(units, twin.task, plan, seed, lay_out=twin.lay_out, notice=self._note)

        def alone(unit: int) -> MicroBatch:
            rows = [Row(*tokens) for tokens in units.tokens(unit, twin.task.encode)]
            inputs = {name: tensor.to(setup.device) for name, tensor in twin.task.collate(rows).items()}
            owners = torch.zeros(len(rows), dtype=torch.int64, device=setup.device)
            return MicroBatch(inputs=inputs, units=owners, num_units=1)

        self._company = CompanyWatch(
            reference=Reference(model, trainable_parameters(model), setup.scaling),
            in_company=setup.row_losses,
            row_losses=twin.row_losses,
            alone=alone,
            clip_norm=plan.clip_norm,
            notice=self._note,
        )

    def counted(self, noise: NoiseSource) -> NoiseSource:
        """The noise source to give to the engine."""
        return self._leaving.counted(noise) if self._active else noise

    def begin(self) -> None:
        """A step begins."""
        if self._active:
            self._entering.begin()
            self._company.begin()

    def took(self, batch: MicroBatch) -> None:
        """The engine is given a microbatch."""
        if self._active:
            self._entering.took(batch)
            self._company.took(batch)

    def released(self, record: StepRecord, draw: NDArray[Any], share: NDArray[Any]) -> None:
        """The engine released the sum of `draw`, of which `share` was its own; the optimizer has not stepped yet."""
        if self._active:
            self._entering.end(record.step, draw, share, record.units)
            self._company.released(record)
            self._leaving.released(record)

    def stepped(self) -> None:
        """The optimizer stepped."""
        if self._active:
            self._leaving.stepped()
            if look_closely(self._steps):
                self._still.glance()
        self._steps += 1

    @contextmanager
    def held(self, *, whole: bool, frozen: bool = False) -> Iterator[None]:
        """Nothing that is called inside may change the model; a change is a finding.

        Args:
          whole: compare every bit of what is trained, also at steps that are not looked at closely. At the others
            writes are found that torch counts.
          frozen: compare every bit of the rest too.
        """
        if not self._active:
            yield
            return
        held = HeldWeights(self._model, whole=whole or look_closely(self._steps))
        try:
            yield
        finally:
            if held.changed:
                self._note("weights changed while callbacks looked at them")
            if whole:
                self._still.look(whole=frozen)
            else:
                self._still.glance()

    def _note(self, reason: str) -> None:
        self.findings += 1
        self._monitor.depart(reason)

    def checkpoint(self) -> None:
        """Look at all that is cheap, before the state is written."""
        if self._active:
            self._leaving.look()
            self._still.look()
            self._settings.look()

    def finish(self) -> None:
        """Look at everything, before an average is written into the model."""
        if self._active:
            self._leaving.look()
            self._still.look(whole=True)
            self._settings.look()

    def detach(self) -> None:
        """Take the hooks off the optimizer."""
        if self._active:
            self._leaving.detach()
