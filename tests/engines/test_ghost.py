"""Opacus' ghost mode: the laws of the contract that hold for one row a unit and untied weights; the rest is refused."""

from __future__ import annotations

import math

import pytest
import torch
from engine_contract import NOISY, PLAN, SEED, clipped_sum, difference, released, trainable, unit_gradients
from engine_models import MODELS, PAD, batch, gpt2, llama, row_losses, rows
from torch import Tensor, nn

from dp_train.engines import ghost
from dp_train.engines.base import Clipping, MicroBatch, StepRecord
from dp_train.engines.ghost import GhostEngine
from dp_train.engines.noise import SeededNoise
from dp_train.errors import ModelError, PlanError
from dp_train.privacy.plan import PrivacyPlan

SINGLE = PLAN.replace(rows_per_unit=1)
UNTIED = {"gpt2_untied": MODELS["gpt2_untied"], "llama": llama}
untied = pytest.mark.parametrize("kind", UNTIED)


def engine_of(model: nn.Module, plan: PrivacyPlan = SINGLE, clipping: Clipping = Clipping.FLAT) -> GhostEngine:
    return GhostEngine(
        model=model,
        row_losses=row_losses,
        plan=plan,
        noise=SeededNoise(SEED),
        optimizer=torch.optim.SGD(trainable(model), lr=0.1),
        clipping=clipping,
    )


def step(
    model: nn.Module, *batches: MicroBatch, plan: PrivacyPlan = SINGLE, clipping: Clipping = Clipping.FLAT
) -> tuple[Tensor, StepRecord]:
    engine = engine_of(model, plan, clipping)
    for microbatch in batches:
        engine.accumulate(microbatch)
    record = engine.release(0)
    engine.detach()
    return released(model) * plan.expected_units, record


def part(inputs: dict[str, Tensor], start: int, stop: int) -> MicroBatch:
    return batch({name: tensor[start:stop] for name, tensor in inputs.items()}, range(stop - start))


@untied
def test_equals_the_per_row_loop(kind: str) -> None:
    model, whole = UNTIED[kind](), batch(rows(7), range(7))
    gradients = unit_gradients(model, whole)
    clip_norm = 1.001 * float(gradients.norm(dim=1).median())
    found, record = step(model, whole, plan=SINGLE.replace(clip_norm=clip_norm))
    assert difference(found, clipped_sum(gradients, clip_norm)) < 1e-5
    assert (record.units, record.clipped_units, record.nonfinite_units) == (7, 3, 0)


@untied
def test_padding_tokens_train_no_embedding(kind: str) -> None:
    model, inputs = UNTIED[kind](), rows(5)
    inputs["input_ids"][:, 1] = PAD
    whole = batch(inputs, range(5))
    expected = clipped_sum(unit_gradients(model, whole), SINGLE.clip_norm)
    assert difference(step(model, whole)[0], expected) < 1e-5


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_microbatches_of_every_size_give_one_sum(size: int) -> None:
    model, inputs = gpt2(tied=False), rows(6)
    cut = [part(inputs, start, min(6, start + size)) for start in range(0, 6, size)]
    assert difference(step(model, *cut)[0], step(model, part(inputs, 0, 6))[0]) < 1e-5


@untied
@pytest.mark.parametrize("clipping", [Clipping.FLAT, Clipping.AUTOMATIC])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_one_unit_moves_the_sum_by_at_most_clip_norm(kind: str, clipping: Clipping, scale: float) -> None:
    model, inputs = UNTIED[kind](), rows(4)
    inputs["scale"][3] = scale
    without, _ = step(model, part(inputs, 0, 3), clipping=clipping)
    joined, _ = step(model, part(inputs, 0, 4), clipping=clipping)
    assert 0 < float((joined - without).norm()) <= SINGLE.clip_norm * (1 + 1e-5)


@pytest.mark.parametrize("field", ["scale", "offset", "spoil"])
def test_a_nonfinite_row_is_zero_and_does_not_spread(field: str) -> None:
    model, inputs = gpt2(tied=False), rows(5)
    healthy, _ = step(model, part(inputs, 0, 4))
    inputs[field][4] = math.nan
    found, record = step(model, part(inputs, 0, 5))
    assert difference(found, healthy) < 1e-5
    assert (record.units, record.nonfinite_units) == (5, 1)
    assert math.isfinite(record.loss_sum)


def test_empty_draw_still_adds_noise() -> None:
    plan = NOISY.replace(rows_per_unit=1)
    noise, record = step(gpt2(tied=False), plan=plan)
    assert (record.units, record.noise_draws) == (0, 1)
    assert float(noise.std()) == pytest.approx(record.noise_std, rel=0.05)


def test_tied_weights_are_refused_by_name_with_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"lm_head\.weight is tied to transformer\.wte\.weight.*bookkeeping"):
        engine_of(gpt2(tied=True))


def test_a_layer_that_is_used_twice_is_refused_by_name() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(self.inner(x))

    model = Twice()
    engine = GhostEngine(
        model=model,
        row_losses=lambda model, inputs: model(inputs["x"]).sum(1),
        plan=SINGLE,
        noise=SeededNoise(SEED),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    with pytest.raises(ModelError, match="layer inner is used twice"):
        engine.accumulate(batch({"x": torch.randn(2, 3)}, range(2)))


def test_several_rows_a_unit_are_refused_by_plan_and_by_microbatch() -> None:
    with pytest.raises(PlanError, match="rows_per_unit=3; use engine bookkeeping"):
        engine_of(gpt2(tied=False), PLAN)
    with pytest.raises(PlanError, match="3 rows of 2 units; expected one row a unit"):
        engine_of(gpt2(tied=False)).accumulate(batch(rows(3), [0, 0, 1]))
    with pytest.raises(PlanError, match="expected one row a unit"):  # a unit without rows makes up for the other
        engine_of(gpt2(tied=False)).accumulate(batch(rows(3), [0, 0, 2]))


def test_clipping_by_layer_and_other_types_than_float32_are_refused() -> None:
    with pytest.raises(PlanError, match="use clipping FLAT or AUTOMATIC"):
        engine_of(gpt2(tied=False), clipping=Clipping.PER_LAYER)
    with pytest.raises(ModelError, match=r"bfloat16.*expected float32"):
        engine_of(gpt2(tied=False).to(torch.bfloat16))


@pytest.mark.parametrize("mistake", [0.5, 2.0])
def test_a_wrong_norm_is_caught_by_the_engine_itself(mistake: float, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ghost._row_squares

    def wrong(module: nn.Module, tensors: list[Tensor], gradient: Tensor) -> dict[nn.Parameter, Tensor]:
        found = honest(module, tensors, gradient)
        return {p: squares * mistake if isinstance(module, nn.Linear) else squares for p, squares in found.items()}

    monkeypatch.setattr(ghost, "_row_squares", wrong)
    with pytest.raises(ModelError, match="is not that of its row's gradient"):
        engine_of(gpt2(tied=False)).accumulate(batch(rows(3), range(3)))
