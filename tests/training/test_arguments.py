"""Wrong arguments are told in one line, callbacks may be small, and nothing of a run stays behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from letters import LetterModel, LetterTask, trainer_of
from torch import nn

from dp_train.engines.base import EngineName
from dp_train.errors import ConfigError, DpTrainError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training.callbacks import Callback, RunStart, StepEnd
from dp_train.training.method import Execution, Method
from dp_train.training.optimizers import sgd
from dp_train.training.trainer import Trainer

UnitsOf = Callable[..., Units]


def one_line(error: pytest.ExceptionInfo[DpTrainError]) -> bool:
    return "\n" not in str(error.value) and "expected" in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "gpt2"}, "model is a str"),
        ({"task": "compose"}, "task is a str"),
        ({"plan": {"epsilon": 8}}, "plan is a dict"),
        ({"optimizer": torch.optim.AdamW([nn.Parameter(torch.ones(1))])}, r"optimizer is a AdamW.*give adamw"),
        ({"optimizer": "adamw"}, "optimizer is a str"),
        ({"method": {"engine": "hooks"}}, "method is a dict"),
        ({"execution": 64}, "execution is a int"),
    ],
)
def test_a_trainer_made_of_something_else_is_refused_in_one_line(
    plan: PrivacyPlan, wrong: dict[str, Any], said: str
) -> None:
    arguments: dict[str, Any] = {"model": LetterModel(), "task": LetterTask(), "plan": plan, "optimizer": sgd(lr=1.0)}
    with pytest.raises(ConfigError, match=said) as error:
        Trainer(**{**arguments, **wrong})
    assert one_line(error)


@pytest.mark.parametrize("units", [["a"], None, "people"])
def test_what_is_not_units_is_refused_in_one_line(plan: PrivacyPlan, units: Any) -> None:
    trainer = trainer_of(LetterModel(), LetterTask(), plan, optimizer=sgd(lr=1.0))
    with pytest.raises(DpTrainError, match="expected Units; call build_units") as error:
        trainer.fit(units)
    assert one_line(error)


@pytest.mark.parametrize("wrong", [{"seeds": b"secret" * 8}, {"reservation": "a1b2"}])
def test_seeds_and_reservations_of_another_kind_are_refused_in_one_line(
    units_of: UnitsOf, plan: PrivacyPlan, wrong: dict[str, Any]
) -> None:
    with pytest.raises(DpTrainError, match="expected") as error:
        trainer_of(LetterModel(), LetterTask(), plan, optimizer=sgd(lr=1.0)).fit(units_of(5), **wrong)
    assert one_line(error)
    assert "secret" not in str(error.value)


def test_a_factory_that_makes_no_optimizer_and_a_schedule_that_gives_no_number_are_refused(
    units_of: UnitsOf, plan: PrivacyPlan
) -> None:
    for settings in ({"optimizer": lambda parameters: None}, {"optimizer": sgd(lr=1.0), "schedule": lambda: 1.0}):
        with pytest.raises(ConfigError, match="trainer"):
            trainer_of(LetterModel(), LetterTask(), plan, **settings).fit(units_of(5))  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["microbatch_rows", "microbatch_tokens", "checkpoint_every"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "8"])
def test_a_number_that_is_none_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{field}={value!r}; expected a whole number"):
        Execution(**{field: value})  # type: ignore[arg-type]


class OnStepAlone:
    def __init__(self) -> None:
        self.steps = 0

    def on_step(self, step: StepEnd) -> None:
        self.steps += 1


class Inherits(Callback):
    def __init__(self) -> None:
        self.steps = 0

    def on_step(self, step: StepEnd) -> None:
        self.steps += 1


@pytest.mark.parametrize("kind", [OnStepAlone, Inherits])
def test_a_callback_writes_the_methods_that_it_needs(units_of: UnitsOf, plan: PrivacyPlan, kind: Any) -> None:
    callback = kind()
    baseline = plan.without_privacy()
    trainer_of(LetterModel(), LetterTask(), baseline, optimizer=sgd(lr=0.1), callbacks=[callback]).fit(units_of(5))
    assert callback.steps == plan.steps


@pytest.mark.parametrize("callback", [print, OnStepAlone, None])
def test_what_is_no_callback_is_refused_in_one_line(callback: Any) -> None:
    with pytest.raises(ConfigError, match="expected an object with on_start, on_step or on_end") as error:
        Execution(callbacks=[callback])
    assert one_line(error)


def hooks_of(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


class Fails(Callback):
    def on_start(self, run: RunStart) -> None:
        raise RuntimeError


@pytest.mark.parametrize("engine", [EngineName.BOOKKEEPING, EngineName.HOOKS])
def test_a_callback_that_fails_at_the_start_leaves_no_hook_on_the_model(
    units_of: UnitsOf, plan: PrivacyPlan, engine: EngineName
) -> None:
    model = LetterModel()
    trainer = trainer_of(
        model, LetterTask(), plan, optimizer=sgd(lr=0.1), engine=engine, callbacks=[Fails()], self_check=False
    )
    with pytest.raises(RuntimeError):
        trainer.fit(units_of(5))
    assert hooks_of(model) == 0
    assert not any(hasattr(parameter, "grad_sample") for parameter in model.parameters())


def test_a_trainer_keeps_nothing_of_a_run(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    baseline = plan.without_privacy()
    trainer = trainer_of(LetterModel(), LetterTask(), baseline, optimizer=sgd(lr=0.1))
    before = dict(vars(trainer))
    first, second = trainer.fit(units_of(5)), trainer.fit(units_of(6))
    assert vars(trainer) == before == {"setup": trainer.setup}
    assert first.identity != second.identity


def test_the_two_values_are_frozen_and_every_field_is_explained() -> None:
    for kind in (Method, Execution):
        assert kind.__doc__ is not None
        for name in kind.__dataclass_fields__:
            assert f"      {name}: " in kind.__doc__, name
