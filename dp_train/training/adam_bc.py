"""Adam without the noise's share of its divisor: the second moment less what the plan says the noise adds to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dp_train.expect import expect
from dp_train.privacy.plan import PrivacyPlan
from dp_train.training.optimizers import OptimizerFactory


class AdamBC(torch.optim.Optimizer):
    """DP-AdamBC: lr · m̂ ÷ √max(v̂ − s², (floor · s)²), where s is the std of the noise on a released gradient.

    Adam's v̂ is the squared gradient plus s², so that under much noise all coordinates step alike; without s² it is
    Adam's divisor again. A post-processing of released gradients and of a public s: it spends nothing. Without noise it
    is Adam.

    Args:
      noise_std: s, of one coordinate. floor: least divisor, in units of s.

    Reference: Tang, Shpilevskiy, Lécuyer 2023 (arXiv 2312.14334).
    """

    def __init__(
        self, params: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float], noise_std: float, floor: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "noise_std": noise_std, "floor": floor})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient; closures are not called."""
        for group in self.param_groups:
            (beta1, beta2), std = group["betas"], group["noise_std"]
            least = max(group["floor"] * std, 1e-8)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["mean"] = torch.zeros_like(parameter)
                    state["square"] = torch.zeros_like(parameter)
                state["step"] += 1
                count, gradient = float(state["step"]), parameter.grad
                mean: Tensor = state["mean"].lerp_(gradient, 1 - beta1)
                square: Tensor = state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                own = square / (1 - beta2**count) - std**2
                parameter.addcdiv_(mean, own.clamp(min=least**2).sqrt(), value=-group["lr"] / (1 - beta1**count))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamBCSpec:
    """`optimizer=adam_bc`; see `AdamBC`."""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.98
    floor: float = 0.5

    def __post_init__(self) -> None:
        expect(self, "optimizer.options.floor", self.floor > 0, "a number > 0, in units of the noise's std")

    def build(self, plan: PrivacyPlan) -> OptimizerFactory:
        """Return what makes the optimizer under the noise of `plan`."""
        std = plan.calibrated_noise_multiplier * plan.clip_norm / plan.expected_units if plan.private else 0.0
        betas = (self.beta1, self.beta2)
        return lambda params: AdamBC(params, lr=self.learning_rate, betas=betas, noise_std=std, floor=self.floor)


__all__ = ["AdamBC", "AdamBCSpec"]
