from __future__ import annotations

import pytest
import torch
from engine_contract import NOISY as SEVERAL_ROWS
from engine_contract import SEED
from torch import nn

from dp_train.engines.base import Engine, EngineName
from dp_train.engines.build import build_engine
from dp_train.engines.noise import SeededNoise
from dp_train.errors import ModelError, PlanError
from dp_train.privacy.plan import PrivacyPlan

NOISY = SEVERAL_ROWS.replace(rows_per_unit=1)
PLAN = NOISY.replace(noise_multiplier=0.0)
PRIVATE = [EngineName.NAIVE, EngineName.HOOKS, EngineName.FUNCTORCH, EngineName.GHOST, EngineName.BOOKKEEPING]


def build(name: EngineName, plan: PrivacyPlan, model: nn.Module | None = None) -> Engine:
    model = model or nn.Linear(3, 1)
    return build_engine(
        name,
        model=model,
        row_losses=lambda model, inputs: model(inputs["x"]).squeeze(-1),
        plan=plan,
        noise=SeededNoise(SEED),
        optimizer=torch.optim.SGD([p for p in model.parameters() if p.requires_grad] or [torch.zeros(1)], lr=0.1),
    )


@pytest.mark.parametrize("name", [*PRIVATE, EngineName.NON_PRIVATE])
def test_every_engine_says_its_name(name: EngineName) -> None:
    assert build(name, NOISY if name in PRIVATE else NOISY.without_privacy()).name is name


@pytest.mark.parametrize("plan", [NOISY, PLAN, NOISY.replace(noise_multiplier=0.1)])
def test_a_plan_that_clips_is_refused_by_the_baseline(plan: PrivacyPlan) -> None:
    with pytest.raises(PlanError, match=r"use plan\.without_privacy\(\)"):
        build(EngineName.NON_PRIVATE, plan)


@pytest.mark.parametrize("name", PRIVATE)
def test_a_plan_without_a_clip_is_refused_by_private_engines(name: EngineName) -> None:
    with pytest.raises(PlanError, match="finite clip_norm"):
        build(name, PLAN.without_privacy())


@pytest.mark.parametrize("name", PRIVATE)
def test_an_uncalibrated_plan_is_refused(name: EngineName) -> None:
    with pytest.raises(PlanError, match="noise_multiplier is not set"):
        build(name, PLAN.replace(noise_multiplier=None))


@pytest.mark.parametrize("name", PRIVATE)
@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.InstanceNorm1d(3, track_running_stats=True)])
def test_batch_statistics_are_refused_even_frozen(name: EngineName, layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(3, 3), layer.requires_grad_(False))
    with pytest.raises(ModelError, match=rf"layer 1 \({type(layer).__name__}\) keeps statistics"):
        build(name, NOISY, model)


@pytest.mark.parametrize("name", PRIVATE)
def test_nothing_trainable_is_refused(name: EngineName) -> None:
    with pytest.raises(ModelError, match="no trainable parameter"):
        build(name, NOISY, nn.Linear(3, 1).requires_grad_(False))
