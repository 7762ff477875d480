"""What a model learnt before is known by its weights: no copy, wrapper, part or rounding of them loses it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from letters import LetterModel, LetterTask, trainer_of
from torch import Tensor, nn

from dp_train.consent.events import Purpose
from dp_train.engines.base import EngineName
from dp_train.models import weights
from dp_train.models.weights import declare_origin
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training import phases
from dp_train.training.optimizers import sgd
from dp_train.training.phases import read_phases, write_phases

UnitsOf = Callable[..., Units]
UNKNOWN = "start weights of unknown origin"


@pytest.fixture(autouse=True)
def _one_accountant(monkeypatch: pytest.MonkeyPatch) -> None:
    from dp_train.engines import cross_check

    monkeypatch.setattr(cross_check, "opinions", lambda plan: {"pld": 1.0, "rdp": 2.0})
    monkeypatch.setattr(phases, "_LEARNT", {})
    monkeypatch.setattr(weights, "_KNOWN", set())


@pytest.fixture
def short(plan: PrivacyPlan) -> PrivacyPlan:
    return plan.replace(steps=3)


def fit(model: nn.Module, units: Units, plan: PrivacyPlan, ledger: Ledger | None = None) -> EpsilonClaim:
    trainer = trainer_of(model, LetterTask(), plan, optimizer=sgd(lr=0.1), engine=EngineName.NAIVE, self_check=False)
    reservation = None if ledger is None else ledger.reserve(plan, units.population)
    return trainer.fit(units, reservation=reservation).epsilon


class Wrapped(nn.Module):
    """As peft does it: the old weights frozen under another name, new ones beside them."""

    def __init__(self, base: LetterModel) -> None:
        super().__init__()
        self.base_model = base.requires_grad_(False)
        self.adapter = nn.Linear(29, 29)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.adapter(self.base_model(ids))
        return logits


def loaded(model: LetterModel) -> LetterModel:
    other = LetterModel()
    other.load_state_dict(model.state_dict())
    return other


def a_part(model: LetterModel) -> LetterModel:
    other = LetterModel()
    other.embedding.load_state_dict(model.embedding.state_dict())
    return other


WAYS: dict[str, Callable[[LetterModel], nn.Module]] = {
    "the object": lambda model: model,
    "deepcopy": deepcopy,
    "load_state_dict": loaded,
    "one layer of it": a_part,
    "wrapper": Wrapped,
    "bfloat16 and back": lambda model: deepcopy(model).bfloat16().float(),
}


@pytest.mark.parametrize("way", WAYS)
def test_weights_that_learnt_without_privacy_withhold_the_claim_whatever_object_holds_them(
    units_of: UnitsOf, short: PrivacyPlan, way: str
) -> None:
    model, units = LetterModel(), units_of(20)
    fit(model, units, short.without_privacy())
    claim = fit(WAYS[way](model), units, short)
    assert claim.withheld == ("an earlier run that trained this model on the same people has no ε per person",)


@pytest.mark.parametrize("way", WAYS)
def test_private_phases_compose_whatever_object_holds_the_weights(
    units_of: UnitsOf, short: PrivacyPlan, way: str
) -> None:
    model, units = LetterModel(), units_of(20)
    alone = fit(model, units, short).unwrap()
    claim = fit(WAYS[way](model), units, short)
    assert len(claim.earlier) == 1
    assert claim.unwrap() > alone


def test_another_process_finds_what_weights_learnt_in_the_ledger(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, model, units = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}"), LetterModel(), units_of(20)
    for runs in range(3):
        assert len(fit(model, units, short, ledger).earlier) == runs
        monkeypatch.setattr(phases, "_LEARNT", {})  # a process that saw none of it
    ledger.close()


def test_a_run_that_was_stopped_and_its_rest_are_one_phase(units_of: UnitsOf, short: PrivacyPlan) -> None:
    model, units = LetterModel(), units_of(20)
    fit(model, units, short)
    assert len(fit(deepcopy(model), units, short).earlier) == 1
    assert len(fit(deepcopy(model), units, short).earlier) == 1  # each copy goes on from the first run alone


def test_a_tensor_that_a_run_left_as_it_was_carries_nothing(units_of: UnitsOf, short: PrivacyPlan) -> None:
    model, units = LetterModel(), units_of(20)
    model.embedding.requires_grad_(False)
    fit(model, units, short.without_privacy())
    other = LetterModel()
    other.embedding.load_state_dict(model.embedding.state_dict())
    assert fit(other, units, short).unwrap() == pytest.approx(short.epsilon())


def test_published_text_adds_no_phase_and_takes_none_away(units_of: UnitsOf, short: PrivacyPlan) -> None:
    model, units = LetterModel(), units_of(20)
    fit(model, units, short)
    fit(model, units_of(20, Purpose.PUBLISH), short.without_privacy())
    assert len(fit(model, units, short).earlier) == 1


def test_an_exported_folder_says_what_trained_the_model_and_the_name_of_the_run(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, units = LetterModel(), units_of(20)
    fit(model, units, short)
    write_phases(model, tmp_path, identity="name of the run")
    assert "name of the run" in (tmp_path / phases.FILE).read_text()
    monkeypatch.setattr(phases, "_LEARNT", {})
    other = loaded(model)
    read_phases(other, tmp_path)
    assert len(fit(other, units, short).earlier) == 1


@pytest.mark.parametrize("declared", [True, False])
def test_an_exported_folder_says_whether_the_origin_of_all_was_known(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    model, units = LetterModel(), units_of(20)
    monkeypatch.setattr(weights, "_KNOWN", set())
    if declared:
        declare_origin(model)
    fit(model, units, short)
    write_phases(model, tmp_path)
    monkeypatch.setattr(phases, "_LEARNT", {})
    monkeypatch.setattr(weights, "_KNOWN", set())
    other = loaded(model)
    read_phases(other, tmp_path)
    assert (UNKNOWN in fit(other, units, short).describe()) is not declared


def test_start_weights_that_nobody_declared_are_said(units_of: UnitsOf, short: PrivacyPlan) -> None:
    declared, units = LetterModel(), units_of(20)
    assert UNKNOWN in fit(deepcopy(declared), units, short).describe()
    declare_origin(declared)
    assert UNKNOWN not in fit(declared, units, short).describe()
    assert UNKNOWN not in fit(deepcopy(declared), units, short).describe()  # as the run left it
    with torch.no_grad():
        declared.output.weight[0, 0] += 1
    assert UNKNOWN in fit(declared, units, short).describe()


class Tempered(LetterModel):
    """Letters of which one number is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(requires_grad=False)
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = super().forward(ids) * self.temperature
        return logits


def test_a_trained_scalar_is_known_by_its_value(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, units, first = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}"), units_of(20), Tempered()
    assert not fit(first, units, short, ledger).earlier
    monkeypatch.setattr(phases, "_LEARNT", {})
    second = Tempered()
    second.load_state_dict(first.state_dict())
    assert len(fit(second, units, short, ledger).earlier) == 1
    ledger.close()


def test_a_scalar_that_nobody_declared_is_said(units_of: UnitsOf, short: PrivacyPlan) -> None:
    model, units = Tempered(), units_of(20)
    declare_origin(model)
    assert UNKNOWN not in fit(deepcopy(model), units, short).describe()
    with torch.no_grad():
        model.temperature.fill_(0.3712)
    assert UNKNOWN in fit(model, units, short).describe()
