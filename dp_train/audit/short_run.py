"""A short run on published text: the run's own watch, constants at n and n − 1 people, and a kill that is resumed.

The run's trainer goes through a few of its steps on published text, so that no private data is read and no one's budget
is touched; its ledger is one in a temporary folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dp_train.audit.checks import Check
from dp_train.audit.subject import Subject
from dp_train.engines.noise import NoiseKind
from dp_train.errors import DpTrainError
from dp_train.privacy.ledger.budget import standing
from dp_train.privacy.ledger.ledger import Ledger, Reservation
from dp_train.privacy.ledger.requests import Request
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.store.database import Database
from dp_train.training.callbacks import Callback, PrivateStep, Result, StepEnd
from dp_train.training.seeds import Seeds

WATCHED, CONSTANTS, RESUMED = "a short run, watched", "constants at n and n − 1 people", "kill and resume"
_STEPS, _KILLED_AFTER = 4, 2
_RESERVATION = "0" * 16


def short_runs(subject: Subject, seed: int) -> list[Check]:
    """Make the short runs, and compare them.

    Args:
      seed: of the runs, which have to be equal.
    """
    plan = short_plan(subject.plan, len(subject.public.whole))
    with tempfile.TemporaryDirectory(prefix="dp-train-audit-") as name:
        folder = Path(name)
        whole = _run(subject, plan, subject.public.whole, seed, folder / "whole")
        fewer = _run(subject, plan, subject.public.emptied, seed, folder / "fewer")
        return [
            Check(
                name=WATCHED,
                compared=f"{plan.steps} steps of the run's trainer on published text with what its watch allows",
                findings=whole.result.epsilon.withheld,
            ),
            Check(
                name=CONSTANTS,
                compared="clip norm, noise, divisor and learning rate of each step, with and without one person",
                findings=() if whole.constants == fewer.constants else ("they follow how many people there are",),
                error="" if whole.constants or fewer.constants else "no step was heard, so nothing was compared",
            ),
            _resumed(subject, plan, seed, folder / "resumed", whole),
        ]


def short_plan(plan: PrivacyPlan, units: int) -> PrivacyPlan:
    """The plan with few steps, for so many public units."""
    cap = None if plan.population is None else max(plan.population, units)
    return plan.replace(steps=min(plan.steps, max(_STEPS, plan.mechanism.noise.bands)), population=cap)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """What a short run left."""

    result: Result
    constants: Sequence[tuple[float, ...]]
    weights: dict[str, Tensor]
    charged: tuple[int, float]  # lines of its ledger, ε spent


class _Killed(Exception):
    """Ends a run in the middle, as an error in anyone's callback does."""


@dataclass
class _Recorder(Callback):
    """Keeps what has to be the same whoever takes part, and ends the run where it is to be killed."""

    kill_after: int | None = None
    constants: list[tuple[float, ...]] = field(default_factory=list)

    def on_private_step(self, step: PrivateStep) -> None:
        record = step.record
        self.constants.append(
            (
                record.clip_norm,
                record.noise_std,
                float(record.noise_draws),
                record.divisor,
                float(record.noise_bands),
                record.loss_noise_std,
            )
        )

    def on_step(self, step: StepEnd) -> None:
        self.constants[-1] += (step.learning_rate,)
        if step.step == self.kill_after:
            raise _Killed


def _run(
    subject: Subject, plan: PrivacyPlan, units: Units, seed: int, folder: Path, *, kill_after: int | None = None
) -> _Ran:
    """Run under a ledger of its own, or go on with the run in `folder`.

    Raises:
      _Killed: it was to be killed.
    """
    recorder = _Recorder(kill_after)
    trainer = subject.make(plan, checkpoint=folder / "checkpoint", callbacks=[recorder])
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(f"sqlite:///{folder / 'ledger.db'}")
    try:
        ledger = Ledger(database, key=folder / "ledger.key")
        reservation = _reserved(ledger, plan, units.population)
        result = trainer.fit(units, reservation=reservation, seeds=Seeds.fixed_for_test(seed))
        stands = standing(ledger.book(), units.population)
        return _Ran(
            result=result,
            constants=recorder.constants,
            weights={name: one.detach().clone() for name, one in trainer.model.state_dict().items()},
            charged=(len(stands.lines), stands.spent),
        )
    finally:
        database.close()


def _reserved(ledger: Ledger, plan: PrivacyPlan, population: str) -> Reservation:
    taken = ledger.take_up(_RESERVATION, plan)
    return taken or ledger.reserve_together([Request(plan=plan, reservation=_RESERVATION)], population)[0]


def _resumed(subject: Subject, plan: PrivacyPlan, seed: int, folder: Path, whole: _Ran) -> Check:
    """Kill the same run, resume it, and compare what it left."""
    compared = "weights, claim and spend of a run that is killed and resumed with those of one left alone"
    if subject.make(plan).setup.method.noise is NoiseKind.SECURE:
        return Check(name=RESUMED, compared=compared, skipped="noise=secure: a killed run cannot be resumed")
    units, findings = subject.public.whole, []
    kill_after = min(_KILLED_AFTER, plan.steps - 1)
    if kill_after < 1:
        return Check(name=RESUMED, compared=compared, skipped="the run has a single step")
    try:
        _run(subject, plan, units, seed, folder, kill_after=kill_after)
    except _Killed:
        pass
    else:
        return Check(name=RESUMED, compared=compared, error="the run could not be killed, so nothing was resumed")
    try:
        again = _run(subject, plan, units, seed, folder)
    except DpTrainError as error:
        return Check(name=RESUMED, compared=compared, findings=(f"the killed run does not resume: {error}",))
    exact = all(one.device.type == "cpu" for one in whole.weights.values())
    if whole.weights.keys() != again.weights.keys() or not all(
        torch.equal(one, again.weights[name]) if exact else torch.allclose(one, again.weights[name], atol=1e-4)
        for name, one in whole.weights.items()
    ):
        findings.append("weights differ")
    if whole.charged != again.charged or whole.result.epsilon.spent != again.result.epsilon.spent:
        findings.append("what was spent differs")
    if whole.result.epsilon.withheld != again.result.epsilon.withheld:
        findings.append("the claim differs")
    return Check(name=RESUMED, compared=compared, findings=tuple(findings))


__all__ = ["CONSTANTS", "RESUMED", "WATCHED", "short_plan", "short_runs"]
