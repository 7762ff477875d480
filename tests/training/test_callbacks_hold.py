"""What leaves is what the checks saw: a callback that changes weights, at any hook, costs the run its claim."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from letters import LetterModel, LetterTask, trainer_of
from torch import nn

from dp_train.engines.base import EngineName
from dp_train.errors import ModelError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training.callbacks import Callback, Result, RunStart, StepEnd
from dp_train.training.checkpoint import CheckpointFolder, TrainState
from dp_train.training.optimizers import sgd
from dp_train.training.trainer import Trainer

UnitsOf = Callable[..., Units]


@pytest.fixture
def short(plan: PrivacyPlan, monkeypatch: pytest.MonkeyPatch) -> PrivacyPlan:
    from dp_train.engines import cross_check

    monkeypatch.setattr(cross_check, "opinions", lambda plan: {"pld": 1.0, "rdp": 2.0})
    return plan.replace(steps=4)


class Writes(Callback):
    """Changes one number, past torch's count of writes, at one hook."""

    def __init__(self, tensor: torch.Tensor, at: str) -> None:
        self._tensor, self._at = tensor, at

    def _write(self, hook: str) -> None:
        if hook == self._at:
            self._tensor.data.view(-1)[-1] += 1e-3

    def on_start(self, run: RunStart) -> None:
        self._write("start")

    def on_step(self, step: StepEnd) -> None:
        self._write(f"step {step.step}")

    def on_end(self, result: Result) -> None:
        self._write("end")


def _with_memory() -> LetterModel:
    model = LetterModel()
    model.register_buffer("memory", torch.zeros(3))
    model.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
    return model


def _trainer(model: LetterModel, plan: PrivacyPlan, **others: Any) -> Trainer:
    """The naive loop, untried, so that the run's own looks have to notice."""
    settings = {"optimizer": sgd(lr=0.5), "engine": EngineName.NAIVE, "self_check": False} | others
    return trainer_of(model, LetterTask(), plan, **settings)


@pytest.mark.parametrize("tensor", ["output.weight", "memory", "frozen"])
@pytest.mark.parametrize("at", ["start", "step 1", "step 4", "end", "never"])
@pytest.mark.parametrize("average", [None, 0.5])
def test_a_callback_that_changes_the_model_costs_the_claim(
    units_of: UnitsOf, short: PrivacyPlan, at: str, tensor: str, average: float | None
) -> None:
    model = _with_memory()
    found = dict(model.named_parameters()) | dict(model.named_buffers())
    trainer = _trainer(model, short, optimizer=sgd(lr=0.1), average=average, callbacks=[Writes(found[tensor], at)])
    assert bool(trainer.fit(units_of(20)).epsilon.withheld) is (at != "never")


class _Dropped(LetterModel):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.output(self.drop(self.embedding(ids)))
        return logits


class _Shows(Callback):
    """Keeps the weights of each step, and does to the model what callbacks do when they look at it."""

    def __init__(self, model: _Dropped, look: Callable[[_Dropped], object]) -> None:
        self._model, self._look = model, look
        self.shown: dict[int, torch.Tensor] = {}

    def on_step(self, step: StepEnd) -> None:
        self._look(self._model)
        self.shown[step.step] = self._model.output.weight.detach().clone()


class _KeepsCopy(CheckpointFolder):
    """Of the state after two steps a copy: what is left of a process that is killed later."""

    def save(self, state: TrainState) -> Path:
        path = super().save(state)
        if state.step == 2 and not state.finished:
            shutil.copytree(self.path, self.path.with_name("left"), dirs_exist_ok=True)
        return path


def test_a_step_that_is_taken_again_is_the_same_step_whatever_mode_a_callback_left(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path
) -> None:
    shown = []
    for folder in (_KeepsCopy(tmp_path / "whole"), CheckpointFolder(tmp_path / "left")):
        model = _Dropped()
        shows = _Shows(model, lambda model: model.eval())
        trainer = _trainer(model, short, checkpoint=folder, checkpoint_every=2, callbacks=[shows])
        assert not trainer.fit(units_of(20)).epsilon.withheld
        shown.append(shows.shown)
    whole, resumed = shown
    assert sorted(resumed) == [3, 4]
    # Else both were noised with the same noise, and their difference shows the sums that it hides.
    assert all(torch.equal(whole[step], resumed[step]) for step in resumed)


def _more_dropout(model: _Dropped) -> None:
    model.drop.p = 0.9


def test_a_setting_that_changes_on_the_way_costs_the_claim(units_of: UnitsOf, short: PrivacyPlan) -> None:
    model = _Dropped()
    trainer = _trainer(model, short, callbacks=[_Shows(model, _more_dropout)])
    assert trainer.fit(units_of(20)).epsilon.withheld == (
        "drop.p changed during the run, which a resumed run would not know",
    )


class _Remembers(LetterModel):
    """What people wrote before moves what the next rows give, by way of a tensor that is no buffer."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.mean, self.rate = torch.zeros(6), rate

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        embedded = self.embedding(ids)
        if self.training:
            self.mean.lerp_(embedded.detach().mean((0, 1)), self.rate)
        logits: torch.Tensor = self.output(embedded - self.mean)
        return logits


def test_a_plain_attribute_that_learns_in_forward_costs_the_claim(units_of: UnitsOf, short: PrivacyPlan) -> None:
    for check in (False, True):
        trainer = _trainer(_Remembers(1e-5), short, optimizer=sgd(lr=0.1), self_check=check)
        if check:
            with pytest.raises(ModelError, match="mean changes in a forward pass"):
                trainer.fit(units_of(20))
        else:
            assert trainer.fit(units_of(20)).epsilon.withheld == ("mean changed, which no noise reaches",)
