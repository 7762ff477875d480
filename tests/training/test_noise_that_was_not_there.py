"""Noise that was not there withholds the ε, whatever the engine says that it added. Other plants: tests/sabotage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from letters import LetterModel, LetterTask, trainer_of
from torch import Tensor

from dp_train.engines.base import EngineName
from dp_train.engines.noise import NoiseKind, SeededNoise
from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training.optimizers import sgd

UnitsOf = Callable[..., Units]
SIZE, REPEATS = "noise that was added is not of the planned size", "noise of a step repeats"


@dataclass
class Altered:
    """Seeded noise with its std, step or tensor tampered with; the engine does not know."""

    std: Callable[[float, int, int], float] = lambda std, step, index: std
    step: Callable[[int], int] = lambda step: step
    index: Callable[[int], int] = lambda index: index

    def add(self, tensor: Tensor, std: float, *, step: int, index: int, block: int = 0) -> None:
        altered = self.std(std, step, index)
        honest = SeededNoise(bytes(range(32)))
        honest.add(tensor, altered, step=self.step(step), index=self.index(index), block=block)


def claim(units: Units, plan: PrivacyPlan, **how: Any) -> EpsilonClaim:
    settings: dict[str, Any] = {"optimizer": sgd(lr=0.01), "engine": EngineName.NAIVE} | how
    return trainer_of(LetterModel(), LetterTask(), plan, **settings).fit(units).epsilon


def plant(monkeypatch: pytest.MonkeyPatch, noise: Altered) -> None:
    """Nobody can hand a run its noise; the place that makes it is tampered with."""
    monkeypatch.setattr("dp_train.training.run_state.build_noise", lambda kind, plan, key: noise)


@pytest.fixture
def longer(plan: PrivacyPlan) -> PrivacyPlan:
    return plan.replace(steps=40)


@pytest.mark.parametrize("noise", list(NoiseKind))
def test_an_honest_run_is_believed(units_of: UnitsOf, longer: PrivacyPlan, noise: NoiseKind) -> None:
    assert claim(units_of(40), longer, noise=noise).unwrap() == longer.epsilon()


@pytest.mark.parametrize(
    ("noise", "reason"),
    [
        (Altered(std=lambda std, step, index: 0.5 * std), SIZE),
        (Altered(std=lambda std, step, index: 0.9 * std), "noise of a tensor is not of the planned size"),
        (Altered(std=lambda std, step, index: 0.0 if index == 2 else std), "noise of a tensor"),
        (Altered(std=lambda std, step, index: 0.0 if step == 7 else std), SIZE),
        (Altered(step=lambda step: 0), REPEATS),
        (Altered(index=lambda index: 0), REPEATS),
    ],
    ids=["half", "nine tenths", "a tensor without", "a step without", "the same every step", "the same every tensor"],
)
def test_noise_that_was_not_there_withholds_the_claim(
    units_of: UnitsOf, longer: PrivacyPlan, noise: Altered, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, noise)
    withheld = claim(units_of(40), longer).withheld
    assert any(reason in why for why in withheld), withheld


@pytest.mark.parametrize("changes", [{"bands": 3}, {"sample_rate": 0.2, "epoch_steps": 5, "bands": 8}])
def test_correlated_noise_of_half_the_size_withholds_the_claim(
    changes: dict[str, float], units_of: UnitsOf, longer: PrivacyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    correlated, add = longer.replace(**changes), SeededNoise.add
    assert claim(units_of(40), correlated).unwrap() == correlated.epsilon()
    monkeypatch.setattr(SeededNoise, "add", lambda self, tensor, std, **at: add(self, tensor, std / 2, **at))
    assert SIZE in claim(units_of(40), correlated).withheld[0]
