"""The plan: public numbers, checked once, from which everything else derives."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from typing import Any

import pytest

from dp_train.errors import PlanError
from dp_train.privacy.plan import NeighboringRelation, PrivacyPlan, Unit

PLAN = PrivacyPlan(sample_rate=0.02, expected_units=256, steps=300, delta=1e-6)


@pytest.mark.parametrize(
    "field",
    [
        {"sample_rate": 0.0},
        {"sample_rate": 1.5},
        {"sample_rate": math.nan},
        {"expected_units": 0},
        {"steps": 0},
        {"delta": 1e-12},
        {"delta": 0.5},
        {"clip_norm": 0.0},
        {"clip_norm": math.inf},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.inf},
        {"max_contributions": 0},
        {"rows_per_unit": 0},
        {"bands": 0},
        {"bands": 51},
        {"population": 100},
        {"loss_noise_ratio": 0.0},
        {"loss_bound": math.inf},
    ],
)
def test_an_impossible_value_is_refused_by_name(field: dict[str, Any]) -> None:
    (name,) = field
    with pytest.raises(PlanError, match=f"{name}=.*expected"):
        PLAN.replace(**field)


def test_a_plan_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAN.steps = 1  # type: ignore[misc]


def test_a_plan_without_noise_set_has_no_sigma() -> None:
    with pytest.raises(PlanError, match="calibrate"):
        _ = PLAN.calibrated_noise_multiplier


def test_the_digest_follows_every_field() -> None:
    changes: list[dict[str, Any]] = [
        {"sample_rate": 0.03},
        {"expected_units": 255},
        {"steps": 299},
        {"delta": 1e-7},
        {"clip_norm": 2.0},
        {"noise_multiplier": 1.0},
        {"unit": Unit.EXAMPLE},
        {"max_contributions": 2},
        {"rows_per_unit": 2},
        {"bands": 2},
        {"max_batch_units": 10, "population": 100},
        {"max_batch_units": 10, "population": 101},
        {"loss_noise_ratio": 5.0},
        {"loss_noise_ratio": 5.0, "loss_bound": 3.0},
        {"epoch_steps": 50},  # of a sample rate of 0.02
        {"shuffled": True, "clip_norm": math.inf, "noise_multiplier": 0.0},
    ]
    assert len(changes) == len(dataclasses.fields(PrivacyPlan))
    assert len({PLAN.replace(**change).digest for change in changes} | {PLAN.digest}) == len(changes) + 1


@pytest.mark.parametrize("changes", [{"max_batch_units": 1}, {"max_contributions": 2}, {"bands": 2}])
def test_a_cap_that_no_event_is_known_for_is_refused(changes: dict[str, Any]) -> None:
    capped = {"max_batch_units": 10, "population": 100}
    with pytest.raises(PlanError, match="max_batch_units="):
        PLAN.replace(**(capped | changes))


def test_correlated_noise_is_refused_where_one_person_takes_several_turns() -> None:
    with pytest.raises(PlanError, match=r"bands=2 with max_contributions=2; expected one of them"):
        PLAN.replace(bands=2, max_contributions=2)


def test_the_description_is_json_even_without_a_clip() -> None:
    described = json.loads(json.dumps(PLAN.without_privacy().describe(), allow_nan=False))
    assert described["clip_norm"] is None
    assert described["neighboring_relation"] == "add_or_remove_one"


def test_sharing_examples_changes_the_neighbours() -> None:
    shared = PLAN.replace(max_contributions=4)
    assert PLAN.neighboring_relation is NeighboringRelation.ADD_OR_REMOVE_ONE
    assert shared.neighboring_relation is NeighboringRelation.REPLACE_SPECIAL
    assert shared.replace(unit=Unit.EXAMPLE).neighboring_relation is NeighboringRelation.ADD_OR_REMOVE_ONE


def test_privacy_rooms_import_without_torch_and_without_the_accountant() -> None:
    code = (
        "import sys, dp_train.privacy.plan, dp_train.privacy.monitor;"
        "import dp_train.privacy.accounting, dp_train.privacy.units;"
        "print(sorted({'torch', 'transformers', 'opacus', 'dp_accounting', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
