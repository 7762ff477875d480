"""Each planted bug is noticed by the running product itself: by who stands in docs/privacy.md, on every engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import CASES, Case, units_of
from plants import (
    COMPANY,
    DRAW,
    ENCODING,
    HELD,
    NOISE,
    OPTIMIZER,
    PLAN,
    PLANTS,
    SELF_CHECK,
    STILL,
    Plant,
    Run,
)
from sabotage_table import NOTICED, table

from dp_train.engines.base import EngineName
from dp_train.errors import ModelError, PlanError
from dp_train.training.method import Execution, Method
from dp_train.training.optimizers import adamw, sgd
from dp_train.training.trainer import Trainer

DOCUMENT = Path(__file__).parents[2] / "docs" / "privacy.md"
SAYS = {
    "noise that was added is not of": NOISE,
    "the noise of a tensor is not of": NOISE,
    "the noise of a step repeats": NOISE,
    "was not given the gradient that was noised": OPTIMIZER,
    "noise was drawn for a release that is not in the plan": OPTIMIZER,
    "did not step exactly once": OPTIMIZER,
    "weights changed outside": OPTIMIZER,
    "weights moved by something else": OPTIMIZER,
    "the learning rate was not": OPTIMIZER,
    "a step did not sum the units": DRAW,
    "a step drew others": DRAW,
    "the rows that entered": DRAW,
    "which no noise reaches": STILL,
    "in company was not what it is alone": COMPANY,
    "while callbacks looked at them": HELD,
}


def who_notices(case: Case, plant: Plant | None, patch: pytest.MonkeyPatch) -> set[str]:
    """Run the case with the bug in it.

    The self-check, most of the seconds of so short a run, is off where another part has to notice the bug by itself.
    """
    torch.set_num_threads(1)
    model, task = case.make()
    run = Run(model, task, patch)
    if plant is not None:
        plant.plant(run)
    units = units_of(task.purpose, run.unit, case.plan.rows_per_unit)
    make = adamw(lr=0.01) if case.engine is EngineName.BOOKKEEPING else sgd(lr=0.1, momentum=0.5)
    method = Method(engine=case.engine, packing=case.packing, schedule=run.schedule)
    execution = Execution(callbacks=run.callbacks, self_check=plant is None or plant.by == SELF_CHECK)
    trainer = Trainer(model, task, case.plan, optimizer=make, method=method, execution=execution)
    try:
        claim = trainer.fit(units).epsilon
    except PlanError as error:
        return {ENCODING if str(error).startswith("task: encode") else PLAN}
    except ModelError as error:
        return {SELF_CHECK if str(error).startswith("self-check: ") else "the engine"}
    if plant is None:
        assert claim.unwrap() == case.plan.epsilon()
    return {who for reason in claim.withheld for says, who in SAYS.items() if says in reason}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_honest_run_keeps_its_claim(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert who_notices(case, None, monkeypatch) == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_planted_bug_is_noticed(plant: Plant, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if plant.not_on(case.engine, case.packing):
        pytest.skip("no bug here")
    found = who_notices(case, plant, monkeypatch)
    NOTICED.setdefault(plant.name, []).append(plant.by if plant.by in found else ", ".join(sorted(found)) or "nothing")
    assert plant.by in found, found or "nothing"


def test_the_table_in_the_document_is_that_of_this_run() -> None:
    assert table({plant.name: plant.by for plant in PLANTS}) in DOCUMENT.read_text()
    assert all(set(NOTICED.get(plant.name, [plant.by])) == {plant.by} for plant in PLANTS)
