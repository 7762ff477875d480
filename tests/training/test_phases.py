"""A model that several runs trained: what is claimed of it is what all of them spent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from letters import LetterModel, LetterTask, trainer_of

from dp_train.consent.events import Purpose
from dp_train.engines.base import EngineName
from dp_train.errors import EpsilonWithheld
from dp_train.privacy.composition import compose
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training.callbacks import Result
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.optimizers import sgd

UnitsOf = Callable[..., Units]


def fit(model: LetterModel, plan: PrivacyPlan, units: Units, folder: Path | None = None) -> Result:
    checkpoint = None if folder is None else CheckpointFolder(folder)
    return trainer_of(
        model, LetterTask(), plan, optimizer=sgd(lr=0.1), engine=EngineName.NAIVE, checkpoint=checkpoint
    ).fit(units)


def test_a_model_trained_in_phases_has_the_composed_epsilon(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    model, units, second = LetterModel(), units_of(20), plan.replace(noise_multiplier=2.0, steps=20)
    alone = fit(model, plan, units).epsilon
    both = fit(model, second, units).epsilon
    composed = compose([plan.event(), second.event()], plan.neighboring_relation, plan.delta).epsilon
    assert both.unwrap() == pytest.approx(composed)
    assert both.unwrap() > max(alone.unwrap(), second.epsilon())
    assert "which 2 runs on these people trained" in both.describe()


def test_what_was_learnt_without_privacy_before_withholds_the_claim(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    model, units = LetterModel(), units_of(20)
    fit(model, plan.without_privacy(), units)
    with pytest.raises(EpsilonWithheld, match="no ε per person"):
        fit(model, plan, units).epsilon.unwrap()


def test_a_public_starting_point_is_no_phase(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    model = LetterModel()
    fit(model, plan.without_privacy(), units_of(20, Purpose.PUBLISH))
    assert fit(model, plan, units_of(20)).epsilon.unwrap() == plan.epsilon()


def test_a_resumed_run_keeps_what_its_model_learnt_before(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    model, units = LetterModel(), units_of(20)
    fit(model, plan, units)
    before = fit(model, plan, units, tmp_path).epsilon
    assert fit(LetterModel(), plan, units, tmp_path).epsilon == before
    assert len(before.earlier) == 1
