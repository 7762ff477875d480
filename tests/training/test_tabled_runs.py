"""Training on a table is training on the text that it was made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from letters import LETTERS, LetterModel, LetterTask
from test_trainer import equal, train

from dp_train.conversations import Example
from dp_train.engines.base import EngineName
from dp_train.errors import PlanError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.tables import UnitTables
from dp_train.privacy.units import Units
from dp_train.tasks.base import Row
from dp_train.training.optimizers import sgd
from dp_train.training.trainer import Trainer

UnitsOf = Callable[..., Units]


def tables(folder: Path) -> UnitTables:
    return UnitTables(folder, encode=LetterTask().encode, facts={})


@pytest.mark.parametrize("engine", [EngineName.NAIVE, EngineName.BOOKKEEPING])
def test_a_run_on_a_table_is_the_run_in_memory_bit_for_bit(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, engine: EngineName
) -> None:
    memory, _ = train(units_of(40), plan, engine=engine)
    fresh, _ = train(units_of(40, tables=tables(tmp_path)), plan, engine=engine)
    cached, _ = train(units_of(40, tables=tables(tmp_path)), plan, engine=engine)
    assert equal(memory, fresh)
    assert equal(memory, cached)


def test_a_run_begun_in_memory_is_resumed_on_a_table(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    train(units_of(40), plan, folder=tmp_path / "run")
    finished, result = train(units_of(40, tables=tables(tmp_path / "units")), plan, folder=tmp_path / "run")
    assert result.steps == plan.steps  # the checkpoint took the table's units for its own
    assert equal(finished, train(units_of(40), plan)[0])


def test_a_table_of_another_task_is_refused(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    class Shorter(LetterTask):
        def encode(self, example: Example) -> Row:
            ids = tuple(ord(letter) % LETTERS for letter in example.target[:5])
            return Row(input_ids=ids, labels=ids)

    units = units_of(20, tables=tables(tmp_path))
    with pytest.raises(PlanError, match="tokenised by another task or tokenizer"):
        Trainer(LetterModel(), Shorter(), plan, optimizer=sgd(lr=0.1)).fit(units)
