"""From an engine's name to an engine, and which plans go with which."""

from __future__ import annotations

import math

import torch
from torch import nn

from dp_train.engines.base import Engine, EngineName, RowLosses
from dp_train.engines.naive import NaiveEngine
from dp_train.engines.noise import NoiseSource
from dp_train.engines.non_private import NonPrivateEngine
from dp_train.errors import PlanError
from dp_train.privacy.plan import PrivacyPlan


def build_engine(
    name: EngineName,
    *,
    model: nn.Module,
    row_losses: RowLosses,
    plan: PrivacyPlan,
    noise: NoiseSource,
    optimizer: torch.optim.Optimizer,
) -> Engine:
    """The engine of that name, attached to `model` until its `detach`.

    Args:
      name: NON_PRIVATE goes with `plan.without_privacy()`, every other name with a finite clip norm.
        σ = 0 with a clip norm clips and adds no noise: for tests and audits, its ε is infinite.
      model: on the device to train on; what is trainable is decided before.
      row_losses: one loss a row, each of its own row alone.
      plan: gives clip norm, noise multiplier and divisor.
      noise: unused by NON_PRIVATE.
      optimizer: the user's own; it steps on ``p.grad`` after each release.

    Raises:
      PlanError: plan and engine do not go together.
      ModelError: nothing is trainable, or the engine has no rule for a layer.
    """
    _check(name, plan)
    if name is EngineName.NON_PRIVATE:
        return NonPrivateEngine(model=model, row_losses=row_losses, plan=plan)
    if name is EngineName.NAIVE:
        return NaiveEngine(model=model, row_losses=row_losses, plan=plan, noise=noise)
    raise PlanError(f"engine {name.value}: not built; choose hooks or naive")


def _check(name: EngineName, plan: PrivacyPlan) -> None:
    if name is EngineName.NON_PRIVATE:
        if plan.sigma > 0 or math.isfinite(plan.clip_norm):
            raise PlanError(
                f"engine non_private: neither clips nor adds noise, and the plan has clip_norm={plan.clip_norm:g}, "
                f"noise_multiplier={plan.sigma:g}; use plan.without_privacy(), or a private engine such as hooks"
            )
    elif math.isinf(plan.clip_norm):
        raise PlanError(
            f"engine {name.value}: needs a finite clip_norm; the plan has none; "
            "set clip_norm, or use engine non_private for the baseline"
        )
