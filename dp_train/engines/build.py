"""From an engine's name to an engine, and which plans go with which."""

from __future__ import annotations

import math
from inspect import Parameter, signature
from typing import assert_never

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from dp_train.engines.base import AnyEngine, Clipping, Engine, EngineName, RowLosses
from dp_train.engines.correlated_noise import planned_noise
from dp_train.engines.naive import NaiveEngine
from dp_train.engines.noise import NoiseKind, NoiseSource, SecureNoise, SeededNoise
from dp_train.engines.non_private import NonPrivateEngine
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.engines.scaling import Scaling
from dp_train.engines.spec import OwnEngine
from dp_train.errors import ModelError, PlanError
from dp_train.privacy.plan import PrivacyPlan


def build_engine(
    name: AnyEngine,
    *,
    model: nn.Module,
    row_losses: RowLosses,
    plan: PrivacyPlan,
    noise: NoiseSource,
    optimizer: torch.optim.Optimizer,
    clipping: Clipping = Clipping.FLAT,
    scaling: Scaling | None = None,
    ranks: Ranks = ALONE,
) -> Engine:
    """The engine of that name, attached to `model` until its `detach`.

    Args:
      name: an engine of this package, or one from outside.
        NON_PRIVATE goes with `plan.without_privacy()`, every other name with a finite clip norm.
        σ = 0 with a clip norm clips and adds no noise: for tests and audits, its ε is infinite.
      model: on the device to train on; what is trainable is decided before.
      row_losses: one loss a row, each of its own row alone.
      plan: gives clip norm, noise multiplier and divisor.
      noise: unused by NON_PRIVATE.
      optimizer: the user's own; it steps on ``p.grad`` after each release.
      clipping: how a unit is bounded by the plan's clip norm; unused by NON_PRIVATE.
      scaling: public factors on gradients before the clip, undone after the noise. Unused by NON_PRIVATE.
      ranks: the processes that share the steps; each is given units of its own, and all release the one sum.

    Raises:
      PlanError: plan, clipping and engine do not go together, or an engine from outside knows no other processes.
      ModelError: nothing is trainable, or the engine has no rule for a layer.
    """
    _check(name, plan)
    if name is EngineName.NON_PRIVATE:
        return NonPrivateEngine(model=model, row_losses=row_losses, plan=plan, ranks=ranks)
    _refuse_batch_statistics(model)
    if isinstance(name, OwnEngine):
        return name.build(
            model=model,
            row_losses=row_losses,
            plan=plan,
            noise=noise,
            optimizer=optimizer,
            clipping=clipping,
            scaling=scaling,
            **_if_several(name, ranks),
        )
    if name is EngineName.NAIVE:
        return NaiveEngine(
            model=model, row_losses=row_losses, plan=plan, noise=noise, clipping=clipping, scaling=scaling, ranks=ranks
        )
    if name is EngineName.HOOKS or name is EngineName.FUNCTORCH:
        from dp_train.engines.hooks import HooksEngine  # Opacus takes seconds to import

        return HooksEngine(
            model=model,
            row_losses=row_losses,
            plan=plan,
            noise=noise,
            optimizer=optimizer,
            functorch=name is EngineName.FUNCTORCH,
            clipping=clipping,
            scaling=scaling,
            ranks=ranks,
        )
    if name is EngineName.BOOKKEEPING:
        from dp_train.engines.bookkeeping import BookkeepingEngine

        return BookkeepingEngine(
            model=model,
            row_losses=row_losses,
            plan=plan,
            noise=noise,
            optimizer=optimizer,
            clipping=clipping,
            scaling=scaling,
            ranks=ranks,
        )
    if name is EngineName.GHOST:
        if scaling is not None:
            raise PlanError(
                "engine ghost: Opacus takes norms of gradients as they are; use bookkeeping, hooks or naive to scale"
            )
        from dp_train.engines.ghost import GhostEngine

        return GhostEngine(
            model=model,
            row_losses=row_losses,
            plan=plan,
            noise=noise,
            optimizer=optimizer,
            clipping=clipping,
            ranks=ranks,
        )
    assert_never(name)


def _if_several(engine: OwnEngine, ranks: Ranks) -> dict[str, Ranks]:
    """The keyword that an engine from outside gets where there are several processes."""
    if ranks.size == 1:
        return {}
    named = signature(engine.build).parameters
    if "ranks" not in named and not any(one.kind is Parameter.VAR_KEYWORD for one in named.values()):
        raise PlanError(
            f"engine {engine.value}: its build takes no ranks, so that each of {ranks.size} processes would release a "
            "sum of its own; give ranks to StepSum, or train in one process"
        )
    return {"ranks": ranks}


def build_noise(kind: NoiseKind, plan: PrivacyPlan, key: bytes) -> NoiseSource:
    """Make the noise of a run: the law that the plan's event is of.

    Args:
      key: secret, of this run alone (`training.seeds.Streams.noise`); unused by SECURE.

    Raises:
      PlanError: secure noise and correlated noise, which a resumed run has to make again.
    """
    law = plan.mechanism.noise
    if kind is NoiseKind.SECURE:
        if not law.independent:
            raise PlanError(f"noise: bands={law.bands} with secure noise; use seeded noise, or set bands=1")
        return SecureNoise()
    return planned_noise(SeededNoise(key), law)


def _check(name: AnyEngine, plan: PrivacyPlan) -> None:
    sigma = plan.calibrated_noise_multiplier  # refuses a plan that is not calibrated
    if name is EngineName.NON_PRIVATE:
        if sigma > 0 or math.isfinite(plan.clip_norm):
            raise PlanError(
                f"engine non_private: neither clips nor adds noise, and the plan has clip_norm={plan.clip_norm:g}, "
                f"noise_multiplier={sigma:g}; use plan.without_privacy(), or a private engine such as hooks"
            )
    elif math.isinf(plan.clip_norm):
        raise PlanError(
            f"engine {name.value}: needs a finite clip_norm and the plan has none; "
            "set clip_norm, or use engine non_private for the baseline"
        )


def _refuse_batch_statistics(model: nn.Module) -> None:
    """A mean over the batch couples rows, and a running mean is a release without noise."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) or (isinstance(module, _NormBase) and module.track_running_stats):
            raise ModelError(
                f"model: layer {name} ({type(module).__name__}) keeps statistics of the batch, which no clip bounds; "
                "replace it by a layer norm or group norm"
            )
