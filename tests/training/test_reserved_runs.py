"""A run that a ledger reserved is settled with what ran, and never with less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from letters import LetterModel, LetterTask, trainer_of

from dp_train.engines.base import EngineName
from dp_train.errors import BudgetError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import State
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training.callbacks import RunStart, StepEnd
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.optimizers import sgd
from dp_train.training.trainer import Trainer

UnitsOf = Callable[..., Units]


class Fails:
    """Raises after a step, or before the first one."""

    def __init__(self, at: int) -> None:
        self._at = at

    def on_start(self, run: RunStart) -> None:
        if self._at == 0:
            raise RuntimeError

    def on_step(self, step: StepEnd) -> None:
        if step.step == self._at:
            raise RuntimeError

    def on_end(self, result: object) -> None:
        pass


def trainer(plan: PrivacyPlan, folder: Path, *callbacks: Fails) -> Trainer:
    return trainer_of(
        LetterModel(),
        LetterTask(),
        plan,
        optimizer=sgd(lr=0.1),
        engine=EngineName.NAIVE,
        checkpoint=CheckpointFolder(folder),
        callbacks=callbacks,
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_a_run_that_ends_is_committed_and_its_claim_says_that_it_is_in_a_ledger(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, ledger: Ledger
) -> None:
    units = units_of(20)
    result = trainer(plan, tmp_path / "run").fit(units, reservation=ledger.reserve(plan, units.population))
    (line,) = ledger.standing(units.population).lines
    assert (line.state, line.steps, result.epsilon.in_ledger) == (State.COMMITTED, plan.steps, True)
    assert not trainer(plan, tmp_path / "other").fit(units).epsilon.in_ledger


@pytest.mark.parametrize("at", [0, 2])
def test_a_run_that_fails_is_charged_in_full_once_a_step_ran(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, ledger: Ledger, at: int
) -> None:
    units = units_of(20)
    with pytest.raises(RuntimeError):
        trainer(plan, tmp_path / "run", Fails(at)).fit(units, reservation=ledger.reserve(plan, units.population))
    (line,) = ledger.standing(units.population).lines
    assert (line.state, line.steps) == (State.ABORTED, at)
    assert (line.event == line.full_event) == (at > 0)


def test_a_run_that_fails_after_an_earlier_kill_is_charged_in_full(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, ledger: Ledger
) -> None:
    units = units_of(20)
    killed = ledger.reserve(plan, units.population)
    again = ledger.take_up(killed.identifier, plan)
    with pytest.raises(RuntimeError):
        trainer(plan, tmp_path / "run", Fails(1)).fit(units, reservation=again)
    (line,) = ledger.standing(units.population).lines
    assert line.event == line.full_event


def test_a_run_of_another_plan_does_not_start(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, ledger: Ledger
) -> None:
    units = units_of(20)
    reservation = ledger.reserve(plan.replace(steps=plan.steps + 1), units.population)
    with pytest.raises(BudgetError, match="for plan"):
        trainer(plan, tmp_path / "run").fit(units, reservation=reservation)
    assert not (tmp_path / "run").exists()


def test_a_reservation_pays_for_one_run(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, ledger: Ledger) -> None:
    units = units_of(20)
    reservation = ledger.reserve(plan, units.population)
    trainer(plan, tmp_path / "run").fit(units, reservation=reservation)
    trainer(plan, tmp_path / "run").fit(units, reservation=reservation)  # the same run, which is finished
    with pytest.raises(BudgetError, match="pays for one run"):
        trainer(plan, tmp_path / "other").fit(units, reservation=reservation)
    (line,) = ledger.standing(units.population).lines
    assert (line.state, line.steps) == (State.COMMITTED, plan.steps)


def test_a_run_whose_checkpoint_is_lost_does_not_begin_again_under_the_same_charge(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, ledger: Ledger
) -> None:
    units = units_of(20)
    reservation = ledger.reserve(plan, units.population)
    with pytest.raises(RuntimeError):
        trainer(plan, tmp_path / "run", Fails(3)).fit(units, reservation=reservation)
    again = ledger.take_up(reservation.identifier, plan)
    with pytest.raises(BudgetError, match="no checkpoint"):
        trainer(plan, tmp_path / "elsewhere").fit(units, reservation=again)
    trainer(plan, tmp_path / "run").fit(units, reservation=again)
    (line,) = ledger.standing(units.population).lines
    assert (line.state, line.steps) == (State.COMMITTED, plan.steps)


def test_a_second_run_on_a_reservation_in_use_does_not_close_it(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, ledger: Ledger
) -> None:
    units = units_of(20)
    reservation = ledger.reserve(plan, units.population)
    reservation.begin(resumed=False)  # by a process that is still at work
    for folder in ("other", "another"):
        with pytest.raises(BudgetError, match="no checkpoint"):
            trainer(plan, tmp_path / folder).fit(units, reservation=reservation)
    (line,) = ledger.standing(units.population).lines
    assert (line.state, line.steps) == (State.OPEN, plan.steps)
