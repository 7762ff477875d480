"""The face of training: what a run is made of, checked; the loop itself is `training.loop`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from torch import nn

from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentedExamples
from dp_train.engines.ranks import ALONE, Ranks, joined
from dp_train.errors import BudgetError, ConfigError, ConsentError, PrivacyError
from dp_train.privacy.ledger.ledger import Reservation
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.tasks.base import PacksRows, Task, WritesText
from dp_train.tasks.metrics import Scores
from dp_train.training.batches import Packing, make_batches
from dp_train.training.callbacks import Result, RunStatus, notify_end, notify_start
from dp_train.training.charge import Charge
from dp_train.training.loop import run_steps
from dp_train.training.method import Execution, Method, Setup
from dp_train.training.opening import open_run
from dp_train.training.optimizers import OptimizerFactory
from dp_train.training.run_state import RunState
from dp_train.training.saving import save_trained
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

        Processes that torchrun started together, or that are a group of torch.distributed, are one run, and each
        calls `fit`: they share every step, take the first one's start, seeds and checkpoint, and end with the same
        weights and result, whatever their number. The first one's callbacks alone are called (docs/devices.md).

        Args:
          units: from `build_units`.
          reservation: of this plan, for `units.population`, from `Ledger.reserve`. It is settled on every way out that
            a process survives. Without it the claim says that the run is in no ledger. Of several processes the first
            one alone reserves.
          seeds: `Seeds.fresh()` unless given; for one run. A checkpoint's seeds come first.

        Raises:
          BudgetError: the reservation is of another plan or population, or paid for a run before.
          ConsentError: the units did not come through the gate, or were consented for another purpose.
          PlanError: the units were bounded otherwise than the private plan says, or share sequences under one.
          PrivacyError: the seeds were used before.
          CheckpointError: the folder holds another run, which is said part by part, or cannot be written.
          ProcessesError: another process of the run is gone, does not answer, or has another run to train.
          ModelError: nothing to train, a layer that the engine cannot clip or gets wrong, rows that share no sequence.
        """
        self._check_kinds(units, reservation, seeds)
        if reservation is not None:
            reservation.check(self.plan, units.population)
        execution = self.setup.execution
        with joined(wait_seconds=execution.wait_seconds) if execution.together else nullcontext(ALONE) as ranks:
            charge = Charge(_of_first(reservation, ranks))
            with charge.closed():
                self._check(units)
                state = open_run(self.setup, units, charge, seeds, ranks)
                result = state.result(RunStatus.FINISHED) if state.finished else self._run(state)
            charge.settle(result.steps, finished=result.status is RunStatus.FINISHED)
            return state.of_all(result)

    def evaluate(self, examples: ConsentedExamples, *, scores: Scores = Scores.ALL) -> dict[str, float]:
        """Return the task's scores of the model as it is, on people who agreed to publication.

        Take other people than those who are trained on: no ε covers what scores tell of them.

        Args:
          examples: of a corpus that was gated for PUBLISH, or `task.examples(dp_train.public(…))`.

        Raises:
          ConsentError: they are of people who agreed to something else, whose scores would be private.
        """
        if not isinstance(examples, ConsentedExamples):
            raise ConsentError(
                f"trainer: examples is a {type(examples).__name__}; expected task.examples(…) of a corpus that was "
                "gated for publish"
            )
        if examples.purpose is not Purpose.PUBLISH:
            raise ConsentError(
                f"trainer: examples are consented for {examples.purpose.value}; expected publish, as no ε covers what "
                "scores of these people would tell; gate evaluation for publish, or call public"
            )
        return self.task.evaluate(self.model, tuple(examples), scores=scores)

    def predict(self, prompts: Sequence[str]) -> list[str]:
        """Return what the model writes after each prompt.

        Raises:
          ConfigError: the prompts are no list of texts, or the task has no `generate`.
        """
        if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
            raise ConfigError('trainer: prompts is no list of texts; expected a list, such as ["can you look at"]')
        if not isinstance(self.task, WritesText):
            raise ConfigError(
                f"trainer: task {self.task.name} cannot write; expected one with generate(model, prompts)"
            )
        return self.task.generate(self.model, prompts)

    def save(self, folder: Path | str) -> Path:
        """Write the model, its tokenizer and what trained it to a new folder, which transformers loads.

        Such a folder is on no list of a store: a withdrawal finds the models that `dp_train.run` leaves.

        Raises:
          CheckpointError: the folder is there already, or cannot be written.
          ModelError: the model is none of transformers.
        """
        return save_trained(self.model, self.task, Path(folder))

    def _run(self, state: RunState) -> Result:
        setup, callbacks = self.setup, self.setup.execution.callbacks if state.ranks.first else ()
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
                notify_start(callbacks, state.describe(), setup.model)
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
        if not state.ranks.first:
            return result
        found = state.watch.findings
        with state.watch.held(whole=True, frozen=True):
            notify_end(self.setup.execution.callbacks, result, self.setup.model)
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


def _of_first(reservation: Reservation | None, ranks: Ranks) -> Reservation | None:
    """Return the reservation, of which a run has one whatever its processes."""
    if reservation is not None and not ranks.first:
        raise BudgetError(
            f"trainer: process {ranks.rank} has a reservation of its own; expected one for the run; reserve in process "
            "0 alone, and close the others'"
        )
    return reservation


__all__ = ["Trainer"]
