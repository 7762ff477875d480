"""A run is known by its code: what moves a gradient cannot be edited between a kill and the resume."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from letters import LetterModel, LetterTask, trainer_of

from dp_train.engines.base import EngineName
from dp_train.engines.naive import NaiveEngine
from dp_train.engines.spec import OwnEngine
from dp_train.errors import CheckpointError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training.callbacks import Callback, StepEnd
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.code import code_digest
from dp_train.training.optimizers import sgd

UnitsOf = Callable[..., Units]

SOURCE = '''
"""A module of one's own."""
from letters import LetterModel, LetterTask
from dp_train.engines.naive import NaiveEngine
import torch

SHIFT = 1
NOTE = {}

def shifted(losses):
    """Say what it does."""
    return losses * SHIFT

def build(**settings):
    return NaiveEngine(**{name: value for name, value in settings.items() if name != "optimizer"})

class Task(LetterTask):
    def row_losses(self, model, inputs):
        return shifted(super().row_losses(model, inputs))

class Model(LetterModel):
    def forward(self, ids):
        return super().forward(ids) * SHIFT

class Optimizer(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)
'''
EDITS = {
    "a comment": (SOURCE.replace("SHIFT = 1", "# as it was\n\n\nSHIFT = 1"), ""),
    "a docstring": (SOURCE.replace("Say what it does.", "Say it better."), ""),
    "a function that a method calls": (SOURCE.replace("losses * SHIFT", "losses * SHIFT + 0"), "code of task"),
    "a constant": (SOURCE.replace("SHIFT = 1", "SHIFT = 2"), "code of model, another code of task"),
    "a forward pass": (SOURCE.replace("(ids) * SHIFT", "(ids) * SHIFT * 1"), "code of model"),
    "an engine": (SOURCE.replace('!= "optimizer"', 'not in ("optimizer", "other")'), "code of engine"),
    "an optimizer": (SOURCE.replace("super().step(closure)", "super().step()"), "code of optimizer"),
}


def module_of(source: str) -> types.ModuleType:
    module = types.ModuleType("module_of_ones_own")
    exec(compile(source, "module_of_ones_own.py", "exec"), module.__dict__)
    return module


class Stop(Callback):
    def on_step(self, step: StepEnd) -> None:
        if step.step == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("edit", EDITS)
def test_resume_under_edited_code_is_refused_in_one_line(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, edit: str
) -> None:
    source, part = EDITS[edit]

    def fit(source: str, *callbacks: Callback) -> None:
        code = module_of(source)
        trainer = trainer_of(
            code.Model(),
            code.Task(),
            plan.replace(steps=2),
            optimizer=lambda parameters: code.Optimizer(parameters, lr=0.1),
            engine=OwnEngine("own", code.build),
            self_check=False,
            checkpoint=CheckpointFolder(tmp_path),
            callbacks=callbacks,
        )
        trainer.fit(units_of(20))

    with pytest.raises(KeyboardInterrupt):
        fit(SOURCE, Stop())
    if not part:
        fit(source)
        return
    with pytest.raises(CheckpointError, match=f"of a run with another {part};") as error:
        fit(source)
    assert "\n" not in str(error.value)


def test_hooks_and_methods_that_were_put_in_place_are_code() -> None:
    from dp_train.training.code import code_of_model

    found = {code_of_model(LetterModel())}
    hooked = LetterModel()
    hooked.output.register_forward_hook(lambda module, inputs, output: output * 2)
    put = LetterModel()
    put.output.forward = lambda hidden: torch.zeros(hidden.shape[0], 29)  # type: ignore[method-assign]
    found |= {code_of_model(hooked), code_of_model(put)}
    assert len(found) == 3
    assert code_of_model(LetterModel()) in found


def test_one_code_has_one_digest() -> None:
    assert code_digest(LetterTask(), sgd(lr=0.1), NaiveEngine) == code_digest(LetterTask(), sgd(lr=0.1), NaiveEngine)
    assert code_digest(EngineName.NAIVE) == code_digest(EngineName.NAIVE)
