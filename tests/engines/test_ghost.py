"""Opacus' ghost mode: the laws of the contract that hold for one row a unit and untied weights; the rest is refused."""

from __future__ import annotations

import pytest
import torch
from engine_contract import PLAN, SEED, EngineContract, trainable
from engine_models import batch, gpt2, row_losses, rows
from torch import Tensor, nn

from dp_train.engines import ghost
from dp_train.engines.base import Clipping, EngineName
from dp_train.engines.ghost import GhostEngine
from dp_train.engines.noise import SeededNoise
from dp_train.errors import ModelError, PlanError
from dp_train.privacy.plan import PrivacyPlan

SINGLE = PLAN.replace(rows_per_unit=1)


class TestGhost(EngineContract):
    engine = EngineName.GHOST
    kinds = ("gpt2_untied", "gpt2_lora", "llama", "llama_lora", "neox_untied")  # T5 and BART share their embedding
    typical = ("gpt2_untied",)
    decoder = "gpt2_untied"
    clippings = (Clipping.AUTOMATIC,)
    units = (0, 1, 2, 3, 4)
    plan = SINGLE
    scales = False  # Opacus takes norms of gradients as they are

    test_per_layer_clipping_bounds_each_tensor_by_itself = None  # one factor a row: refused, see below
    test_sums_are_float32_whatever_the_model_computes_in = None  # the second pass sums in the model's type: refused


def engine_of(model: nn.Module, plan: PrivacyPlan = SINGLE, clipping: Clipping = Clipping.FLAT) -> GhostEngine:
    return GhostEngine(
        model=model,
        row_losses=row_losses,
        plan=plan,
        noise=SeededNoise(SEED),
        optimizer=torch.optim.SGD(trainable(model), lr=0.1),
        clipping=clipping,
    )


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
