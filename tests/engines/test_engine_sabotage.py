"""The contract has teeth: each planted mistake makes one of its tests fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from engine_contract import SEED, EngineContract
from test_bookkeeping import plant
from torch import Tensor, nn

from dp_train.engines import bookkeeping, units
from dp_train.engines.base import Engine, EngineName, MicroBatch, StepRecord
from dp_train.engines.noise import NoiseSource, SeededNoise
from dp_train.engines.units import clip_factors
from dp_train.errors import ModelError
from dp_train.privacy.plan import PrivacyPlan


@dataclass
class AlteredNoise:
    """Seeded noise with its std, step or index tampered with."""

    std: Callable[[float, int], float] = lambda std, index: std
    step: Callable[[int], int] = lambda step: step
    index: Callable[[int], int] = lambda index: index

    def add(self, tensor: Tensor, std: float, *, step: int, index: int, block: int = 0) -> None:
        altered = self.std(std, index)
        SeededNoise(SEED).add(tensor, altered, step=self.step(step), index=self.index(index), block=block)


@dataclass
class AlteredEngine:
    """An engine with what it takes, or what it released, tampered with."""

    engine: Engine
    model: nn.Module
    take: Callable[[MicroBatch], MicroBatch] = lambda batch: batch
    factor: Callable[[StepRecord], float] = lambda record: 1.0

    @property
    def name(self) -> EngineName:
        return self.engine.name

    def accumulate(self, batch: MicroBatch) -> None:
        self.engine.accumulate(self.take(batch))

    def release(self, step: int) -> StepRecord:
        record = self.engine.release(step)
        for parameter in self.model.parameters():
            parameter.grad.mul_(self.factor(record))
        return record

    def detach(self) -> None:
        self.engine.detach()


def rows_as_units(batch: MicroBatch) -> MicroBatch:
    return replace(batch, units=torch.arange(len(batch.units)), num_units=len(batch.units))


def no_clip(norms: Tensor, clip_norm: float) -> Tensor:
    return torch.ones_like(norms, dtype=torch.float32)


def mean_clip(norms: Tensor, clip_norm: float) -> Tensor:
    return clip_factors(norms.mean().expand_as(norms), clip_norm)


BOUND, EQUAL, NOISE = (
    "test_one_unit_moves_the_sum_by_at_most_clip_norm",
    "test_equals_the_per_unit_loop",
    "test_noise_of_every_tensor_has_the_planned_variance_at_every_step",
)
BIG_UNIT = {"kind": "gpt2_tied", "others": (1,), "scale": 1e6}
TIED = {"kind": "gpt2_tied"}


def fails(contract: EngineContract, law: str, arguments: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        getattr(contract, law)(**arguments)


@pytest.mark.parametrize("engine", [EngineName.HOOKS, EngineName.BOOKKEEPING])
@pytest.mark.parametrize("mistake", [no_clip, mean_clip])
@pytest.mark.parametrize(("law", "arguments"), [(BOUND, BIG_UNIT), (EQUAL, TIED)])
def test_a_wrong_clip_is_caught(
    engine: EngineName,
    mistake: Callable[[Tensor, float], Tensor],
    law: str,
    arguments: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(units, "clip_factors", mistake)
    contract = EngineContract()
    contract.engine = engine
    fails(contract, law, arguments)


PADDING = "test_padding_tokens_train_no_embedding_as_in_torch"


@pytest.mark.parametrize(
    ("mistake", "law", "kind"),
    [
        ("cross term", EQUAL, "gpt2_tied"),
        ("bias", EQUAL, "gpt2_untied"),
        ("rows as units", PADDING, "gpt2_tied"),
        ("padding", PADDING, "llama"),
    ],
)
def test_a_wrong_rule_is_caught(mistake: str, law: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = EngineContract()
    contract.engine = EngineName.BOOKKEEPING
    getattr(contract, law)(kind)
    plant(mistake, monkeypatch)
    with pytest.raises(ModelError, match="in a way that its rule does not cover"):  # the engine itself looks first
        getattr(contract, law)(kind)
    monkeypatch.setattr(bookkeeping, "agrees_with_autograd", lambda *arguments: True)
    fails(contract, law, {"kind": kind})


@pytest.mark.parametrize(
    "noise",
    [
        AlteredNoise(std=lambda std, index: 0.5 * std),
        AlteredNoise(std=lambda std, index: 0.9 * std),
        AlteredNoise(std=lambda std, index: 0.0 if index == 3 else std),
        AlteredNoise(step=lambda step: 0),
        AlteredNoise(index=lambda index: 0),
    ],
    ids=["half", "nine tenths", "one tensor without", "the same every step", "the same for every tensor"],
)
def test_wrong_noise_is_caught(noise: NoiseSource) -> None:
    class Sabotaged(EngineContract):
        engine = EngineName.HOOKS

        def build(self, model: nn.Module, plan: PrivacyPlan, source: NoiseSource | None = None, **how) -> Engine:
            return super().build(model, plan, noise, **how)

    fails(Sabotaged(), NOISE, {})


@pytest.mark.parametrize(
    ("alter", "law", "arguments"),
    [
        ({"take": rows_as_units}, EQUAL, TIED),
        ({"take": rows_as_units}, BOUND, BIG_UNIT),
        ({"factor": lambda record: record.divisor / max(1, record.units)}, EQUAL, TIED),
        ({"factor": lambda record: 2.0}, BOUND, BIG_UNIT),
    ],
    ids=["rows clipped: sum", "rows clipped: bound", "divided by the draw", "sum twice as large"],
)
def test_wrong_units_and_divisors_are_caught(
    alter: dict[str, Callable[..., object]], law: str, arguments: dict[str, object]
) -> None:
    class Sabotaged(EngineContract):
        engine = EngineName.HOOKS

        def build(self, model: nn.Module, plan: PrivacyPlan, noise: NoiseSource | None = None, **how) -> Engine:
            return AlteredEngine(super().build(model, plan, noise, **how), model, **alter)

    fails(Sabotaged(), law, arguments)


def test_the_laws_hold_for_what_is_not_sabotaged() -> None:
    contract = EngineContract()
    contract.engine = EngineName.HOOKS
    getattr(contract, BOUND)(**BIG_UNIT)
    getattr(contract, EQUAL)(**TIED)
    getattr(contract, NOISE)()
