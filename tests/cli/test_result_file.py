"""What a run folder keeps of a claim: read again, it has the limits that it had."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.folder import RunFolder
from dp_train.runs.result import RESULT, RunResult, finished_before, result_values
from dp_train.training.callbacks import Result, RunStatus

PLAN = PrivacyPlan(sample_rate=0.1, expected_units=10, steps=4, delta=1e-5, noise_multiplier=1.0)


def test_a_resumed_study_still_says_that_a_seed_was_chosen_and_what_came_before(tmp_path: Path) -> None:
    claim = EpsilonClaim(
        private=True,
        withheld=(),
        spent=2.5,
        delta=PLAN.delta,
        unit=PLAN.unit,
        steps=4,
        in_ledger=True,
        earlier=("an event", "another"),
        fixed_seed=True,
        untried=True,
        planned_steps=PLAN.steps,
    )
    ended = Result(status=RunStatus.FINISHED, steps=4, epsilon=claim, seconds=1.0, checkpoint=None)
    folder, config = RunFolder(tmp_path), cast("Any", SimpleNamespace(task=SimpleNamespace(name="letters")))
    outcome = RunResult(label="run", config=config, plan=PLAN, result=ended, scores={}, samples=(), folder=folder)
    values = result_values(
        outcome, metric="loss", higher_is_better=False, consent_root="ab", starting_point=None, tracked=None
    )
    folder.write_json(RESULT, values)
    again = finished_before(config, PLAN, folder)
    assert again is not None
    assert again.result.epsilon == claim
    assert "the seed was chosen" in again.result.epsilon.describe()
    assert "3 runs on these people trained" in again.result.epsilon.describe()
