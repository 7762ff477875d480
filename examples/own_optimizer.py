"""An optimizer of one's own: signs of released gradients, averaged (Bernstein et al. 2018, arXiv 1802.04434).

    dp-train train optimizer=own_optimizer:SignMomentum optimizer.options.decay=0.8

    [project.entry-points."dp_train.optimizers"]
    sign_momentum = "own_optimizer:SignMomentum"

It works on released gradients, which are private already: whatever it does with them spends nothing.
"""

from dataclasses import dataclass

from dp_train.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SignMomentum:
    """Steps of length `learning_rate` along the sign of the average gradient."""

    learning_rate: float = 1e-3  # the configuration's optimizer.learning_rate
    decay: float = 0.9  # of our own: optimizer.options.decay

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(f"config: optimizer.options.decay={self.decay}; expected a share in [0, 1)")

    def build(self, plan):
        """What makes the optimizer from the trainable parameters; `plan` knows the noise, if that is of use."""
        import torch

        class Sign(torch.optim.Optimizer):
            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for parameter in group["params"]:
                        average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                        average.lerp_(parameter.grad, 1 - group["decay"])
                        parameter.sub_(average.sign(), alpha=group["lr"])

        return lambda parameters: Sign(parameters, {"lr": self.learning_rate, "decay": self.decay})
