from __future__ import annotations

import pytest
import torch

from dp_train.cli.load_config import compose
from dp_train.privacy.plan import PrivacyPlan
from dp_train.training.adam_bc import AdamBCSpec
from dp_train.training.optimizers import adamw, noise_scaled

PLAN = PrivacyPlan(sample_rate=0.1, expected_units=50, steps=10, delta=1e-5, clip_norm=2.0, noise_multiplier=0.5)


def moved(plan: PrivacyPlan, gradients: list[float], plain_lr: float | None = None) -> float:
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = noise_scaled(plan, lr=0.01, plain_lr=plain_lr)([parameter])
    for gradient in gradients:
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
    return float(parameter.detach())


def test_a_lasting_gradient_of_one_std_of_the_noise_moves_by_the_rate_at_every_noise() -> None:
    for sigma in (0.1, 4.0):
        plan = PLAN.replace(noise_multiplier=sigma)
        std = sigma * plan.clip_norm / plan.expected_units
        late = moved(plan, [std] * 200) - moved(plan, [std] * 199)
        assert late == pytest.approx(-0.01)


def test_noise_that_is_taken_back_leaves_nothing() -> None:
    """Linear in the gradients: what a later step subtracts is gone, as the divisor of Adam would not have it."""
    assert moved(PLAN, [1.0, -1.0, *[0.0] * 300]) == pytest.approx(0.0, abs=1e-12)


def test_without_noise_there_is_no_unit_of_noise_and_adamw_stands_in() -> None:
    assert moved(PLAN.without_privacy(), [123.0]) == pytest.approx(-0.01)
    assert moved(PLAN.without_privacy(), [123.0], plain_lr=0.3) == pytest.approx(-0.3)
    assert moved(PLAN, [1.0], plain_lr=0.3) == moved(PLAN, [1.0])


def stepped(spec: AdamBCSpec, plan: PrivacyPlan, gradients: torch.Tensor) -> torch.Tensor:
    parameter = torch.nn.Parameter(torch.zeros(gradients.shape[1], dtype=torch.float64))
    optimizer = spec.build(plan)([parameter])
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach()


def test_adam_bc_takes_the_noise_out_of_the_divisor() -> None:
    """Under noise, coordinates step as far as their signals say, not all alike."""
    std = PLAN.calibrated_noise_multiplier * PLAN.clip_norm / PLAN.expected_units
    noise = std * torch.randn(400, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    signal = std * torch.tensor([1.0, 0.0], dtype=torch.float64)
    moved = stepped(AdamBCSpec(learning_rate=0.01), PLAN, noise + signal)
    assert float(moved[0]) == pytest.approx(-4.0, rel=0.2)  # with the noise in it, 4 ÷ √2
    assert abs(float(moved[1])) < 0.5


def test_adam_bc_without_noise_is_adam() -> None:
    gradients = torch.randn(20, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = stepped(AdamBCSpec(learning_rate=0.01), PLAN.without_privacy(), gradients)
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    known = adamw(lr=0.01)([parameter])
    for gradient in gradients:
        parameter.grad = gradient
        known.step()
    assert found == pytest.approx(parameter.detach(), rel=1e-5)


def test_adam_bc_is_chosen_by_name_with_no_file_in_conf() -> None:
    recipe, _ = compose(["optimizer=adam_bc", "optimizer.options.floor=0.25"])
    assert recipe.optimizer.spec() == AdamBCSpec(learning_rate=1e-3, floor=0.25)
