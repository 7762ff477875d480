from __future__ import annotations

import math

import pytest
import torch
from engine_contract import PLAN, SEED, UNITS, difference, every_model, released, trainable, unit_gradients
from engine_models import MODELS, batch, row_losses, rows, select
from torch import Tensor, nn

from dp_train.engines.base import EngineName, MicroBatch, StepRecord
from dp_train.engines.build import build_engine
from dp_train.engines.noise import SeededNoise

BASELINE = PLAN.without_privacy()


def step(model: nn.Module, *batches: MicroBatch) -> tuple[Tensor, StepRecord]:
    engine = build_engine(
        EngineName.NON_PRIVATE,
        model=model,
        row_losses=row_losses,
        plan=BASELINE,
        noise=SeededNoise(SEED),
        optimizer=torch.optim.SGD(trainable(model), lr=0.1),
    )
    for microbatch in batches:
        engine.accumulate(microbatch)
    record = engine.release(0)
    engine.detach()
    return released(model) * BASELINE.expected_units, record


@every_model
def test_baseline_is_the_sum_of_unclipped_unit_gradients(kind: str) -> None:
    model, whole = MODELS[kind](), batch(rows(len(UNITS)), UNITS)
    expected = unit_gradients(model, whole).sum(0)
    found, record = step(model, whole)
    assert difference(found, expected) < 1e-5
    assert (record.units, record.noise_draws, record.noise_std) == (5, 0, 0.0)
    assert record.divisor == BASELINE.expected_units
    assert math.isinf(record.clip_norm)


def test_baseline_does_not_depend_on_the_cut() -> None:
    model, whole = MODELS["gpt2_tied"](), batch(rows(len(UNITS)), UNITS)
    assert difference(step(model, select(whole, [0, 3]), select(whole, [1, 2, 4]))[0], step(model, whole)[0]) < 1e-5


@pytest.mark.parametrize(("field", "value"), [("scale", math.nan), ("offset", math.inf), ("spoil", math.nan)])
def test_baseline_leaves_out_the_same_nonfinite_units(field: str, value: float) -> None:
    model, inputs = MODELS["gpt2_tied"](), rows(len(UNITS))
    healthy, _ = step(model, select(batch(inputs, UNITS), [0, 1, 2, 4]))
    inputs[field][5] = value
    found, record = step(model, batch(inputs, UNITS))
    assert difference(found, healthy) < 1e-5
    assert (record.units, record.nonfinite_units) == (5, 1)


def test_baseline_of_an_empty_draw_is_zero() -> None:
    model = MODELS["gpt2_tied"]()
    found, record = step(model)
    assert not found.any()
    assert record.units == 0
