"""Optimizers and learning-rate schedules as small functions: what the trainer needs, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from dp_train.errors import ConfigError
from dp_train.privacy.plan import PrivacyPlan

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Schedule = Callable[[int, int], float]
"""(finished steps, total steps) → factor on the learning rate. A pure function, so resume needs no state."""


def adamw(
    *, lr: float, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.98), eps: float = 1e-8
) -> OptimizerFactory:
    """AdamW. The released gradient is already private, so any post-processing of it is free."""
    return lambda parameters: torch.optim.AdamW(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def sgd(*, lr: float, momentum: float = 0.0) -> OptimizerFactory:
    """SGD, with momentum where it is wanted."""
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=momentum)


def noise_scaled(
    plan: PrivacyPlan, *, lr: float, plain_lr: float | None = None, betas: tuple[float, float] = (0.9, 0.98)
) -> OptimizerFactory:
    """Steps in units of the noise: lr · m ÷ s, where m averages released gradients and s = σC ÷ B is their noise's std.

    Adam divides by the root of a second moment, which under much noise is s in every coordinate (Tang et al. 2023,
    arXiv 2312.14334) and which the plan knows. Dividing by s itself leaves the step linear in the gradients, so that
    noise that is correlated over steps cancels, and one `lr`, in Adam's units, serves every ε. Without privacy there is
    no s to divide by, and this is `adamw`: at a rate of its own, for where coordinates are mostly noise steps may be
    longer than Adam's, which are of full length in each of them.

    Args:
      plan: of the run, calibrated.
      lr: what the noise alone moves a coordinate by in one step, before averaging.
      plain_lr: of AdamW, where there is no noise; `lr` if not given.
      betas: decay of the average m; the second is for AdamW alone.
    """
    if not plan.private:
        return adamw(lr=lr if plain_lr is None else plain_lr, betas=betas)
    std = plan.calibrated_noise_multiplier * plan.clip_norm / plan.expected_units
    return sgd(lr=(1 - betas[0]) * lr / std, momentum=betas[0])


def constant(step: int, steps: int) -> float:
    """The learning rate as given."""
    return 1.0


def linear(*, warmup: float = 0.05, final: float = 0.0) -> Schedule:
    """Linear warm-up over the share `warmup` of the steps, then linear decay to `final` × the rate."""

    def factor(step: int, steps: int) -> float:
        rising = max(1, round(warmup * steps))
        if step < rising:
            return (step + 1) / rising
        return final + (1 - final) * max(0.0, (steps - step) / max(1, steps - rising))

    return factor


def from_scheduler(make: Callable[[torch.optim.Optimizer], LRScheduler]) -> Schedule:
    """A schedule of torch or transformers, by the factors that it gives an optimizer whose rate is 1.

        Method(schedule=from_scheduler(lambda optimizer: get_cosine_schedule_with_warmup(optimizer, 10, plan.steps)))

    Its factors are read before the first step, so a run resumes with no state of it. What it does to momentum is left
    out.

    Raises:
      ConfigError: at the start of the run, where `make` gives no scheduler, or one that follows a score: its steps
        would be chosen by values that no ε covers.
    """
    if not callable(make):
        raise ConfigError(
            f"trainer: schedule from a {type(make).__name__}; expected a function that makes it, such as lambda "
            "optimizer: CosineAnnealingLR(optimizer, 100)"
        )

    @lru_cache(maxsize=4)
    def factors(steps: int) -> tuple[float, ...]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
        scheduler = make(optimizer)
        if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
            raise ConfigError(
                f"trainer: schedule made a {type(scheduler).__name__}; expected a scheduler of torch or transformers "
                "that follows the step alone"
            )
        found = []
        for _ in range(steps):
            found.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step()
        return tuple(found)

    return lambda step, steps: factors(steps)[step]
