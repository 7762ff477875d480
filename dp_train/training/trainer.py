"""The face of training: what a run is made of, checked; the loop itself is `training.loop`."""

from __future__ import annotations

from torch import nn

from dp_train.consent.events import Purpose
from dp_train.errors import BudgetError, ConsentError, PrivacyError
from dp_train.privacy.ledger.ledger import Reservation
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.tasks.base import PacksRows, Task
from dp_train.training.batches import Packing, make_batches
from dp_train.training.callbacks import Result, RunStatus, notify_end, notify_start
from dp_train.training.charge import Charge
from dp_train.training.loop import run_steps
from dp_train.training.method import Execution, Method, Setup
from dp_train.training.optimizers import OptimizerFactory
from dp_train.training.run_state import RunState, open_run
from dp_train.training.seeds import Seeds


class Trainer:
    """Trains `model` on units of consented examples under one plan.

    Guarantee: with a private plan, fresh seeds and a claim that is not withheld, everything that `fit`
    changes in the model is (ε, δ)-differentially private in the unit of the plan, under the
    neighbouring relation of the plan. The claim says ε; what a callback makes of a `PrivateStep` is
    not covered by it.

    A trainer holds what it was made with and nothing of a single run: `fit` may be called again, for another run or
    for the rest of the one in its checkpoint folder.

    Args:
      model: a transformers model (or any module that the engine can clip) on the device to train on.
      task: encodes, collates and gives one loss a row.
      plan: calibrated plan; `plan.without_privacy()` runs the non-private baseline through the same loop.
      optimizer: makes the optimizer from the trainable parameters, e.g. `adamw(lr=5e-4)`.
      method: all else that moves a gradient.
      execution: what only moves the speed or safety of the process.

    Raises:
      ConfigError: an argument of another kind.
      PlanError: the plan and the method do not go together.
      ModelError: the task's rows cannot share a sequence.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        plan: PrivacyPlan,
        *,
        optimizer: OptimizerFactory,
        method: Method | None = None,
        execution: Execution | None = None,
    ) -> None:
        self.setup = Setup(
            model=model,
            task=task,
            plan=plan,
            optimizer=optimizer,
            method=Method() if method is None else method,
            execution=Execution() if execution is None else execution,
        )

    @property
    def model(self) -> nn.Module:
        """The model that is trained, in place."""
        return self.setup.model

    @property
    def task(self) -> Task:
        """What it is trained for."""
        return self.setup.task

    @property
    def plan(self) -> PrivacyPlan:
        """The plan of every run."""
        return self.setup.plan

    def fit(self, units: Units, *, reservation: Reservation | None = None, seeds: Seeds | None = None) -> Result:
        """Run the plan's steps on `units`, or those that its checkpoint has left.

        A signal (Ctrl-C, SIGTERM) ends it after the step in hand; the result then says KILLED. When to stop was not
        declared before, so the ε is that of the whole plan. Calling `fit` again with the same checkpoint folder goes
        on from there, at no extra cost; on CPU the parameters are those of a run left alone, bit for bit.

        Args:
          units: from `build_units`.
          reservation: of this plan, for `units.population`, from `Ledger.reserve`. It is settled on every way out that
            a process survives. Without it the claim says that the run is in no ledger.
          seeds: `Seeds.fresh()` unless given; for one run. A checkpoint's seeds come first.

        Raises:
          BudgetError: the reservation is of another plan or population, or paid for a run before.
          ConsentError: the units did not come through the gate, or were consented for another purpose.
          PlanError: the units were bounded otherwise than the private plan says, or share sequences under one.
          PrivacyError: the seeds were used before.
          CheckpointError: the folder holds another run, which is said part by part, or cannot be written.
          ModelError: nothing to train, a layer that the engine cannot clip or gets wrong, or rows that cannot share a
            sequence.
        """
        self._check_kinds(units, reservation, seeds)
        if reservation is not None:
            reservation.check(self.plan, units.population)
        charge = Charge(reservation)
        with charge.closed():
            self._check(units)
            state = open_run(self.setup, units, charge, seeds)
            result = state.result(RunStatus.FINISHED) if state.finished else self._run(state)
        charge.settle(result.steps, finished=result.status is RunStatus.FINISHED)
        return result

    def _run(self, state: RunState) -> Result:
        setup, callbacks = self.setup, self.setup.execution.callbacks
        batches = make_batches(
            state.units,
            setup.task,
            packing=setup.method.packing,
            rows=setup.execution.microbatch_rows,
            tokens=setup.execution.microbatch_tokens,
            device=setup.device,
            by_token=setup.method.by_token,
        )
        engine = state.build_engine()
        try:
            with state.watch.held(whole=True):
                notify_start(callbacks, state.describe())
            try:
                result = run_steps(state, engine, batches)
            except BaseException:
                state.watch.finish()
                self._tell_end(state, state.result(RunStatus.FAILED))
                raise
        finally:
            engine.detach()
            state.watch.detach()
        return self._tell_end(state, result)

    def _tell_end(self, state: RunState, result: Result) -> Result:
        """Tell callbacks how the run ended, and return that: without a claim, if one of them changed the weights."""
        found = state.watch.findings
        with state.watch.held(whole=True, frozen=True):
            notify_end(self.setup.execution.callbacks, result)
        return result if state.watch.findings == found else state.result(result.status, result.stopped_by)

    def _check_kinds(self, units: object, reservation: object, seeds: object) -> None:
        if not isinstance(units, Units):
            raise ConsentError(
                f"trainer: units is a {type(units).__name__}; expected Units; call build_units on what the consent "
                "gate let through"
            )
        if reservation is not None and not isinstance(reservation, Reservation):
            raise BudgetError(
                f"trainer: reservation is a {type(reservation).__name__}; expected what Ledger.reserve returns"
            )
        if seeds is not None and not isinstance(seeds, Seeds):
            raise PrivacyError(f"trainer: seeds is a {type(seeds).__name__}; expected Seeds.fresh(), or none")

    def _check(self, units: Units) -> None:
        setup = self.setup
        if units.purpose not in (setup.task.purpose, Purpose.PUBLISH):
            raise ConsentError(
                f"units: consented for {units.purpose.value}; task {setup.task.name} needs {setup.task.purpose.value}; "
                "gate the corpus for that purpose"
            )
        if setup.plan.private:
            units.check(setup.plan)
        if setup.method.packing is not Packing.NONE and isinstance(setup.task, PacksRows):
            setup.task.check_packing(setup.model)


__all__ = ["Trainer"]
