"""What leaves is what the checks saw: a callback that changes weights, at any hook, costs the run its claim."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from letters import LetterModel, LetterTask, trainer_of
from torch import nn

from dp_train.engines.base import EngineName
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training.callbacks import Callback, Result, RunStart, StepEnd
from dp_train.training.optimizers import sgd

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


@pytest.mark.parametrize("tensor", ["output.weight", "memory", "frozen"])
@pytest.mark.parametrize("at", ["start", "step 1", "step 4", "end", "never"])
@pytest.mark.parametrize("average", [None, 0.5])
def test_a_callback_that_changes_the_model_costs_the_claim(
    units_of: UnitsOf, short: PrivacyPlan, at: str, tensor: str, average: float | None
) -> None:
    model = _with_memory()
    found = dict(model.named_parameters()) | dict(model.named_buffers())
    trainer = trainer_of(
        model,
        LetterTask(),
        short,
        optimizer=sgd(lr=0.1),
        engine=EngineName.NAIVE,
        self_check=False,
        average=average,
        callbacks=[Writes(found[tensor], at)],
    )
    assert bool(trainer.fit(units_of(20)).epsilon.withheld) is (at != "never")
