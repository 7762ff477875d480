"""The words of an optimizer in a configuration, and which optimizers there are. No torch.

All of it works on released gradients, so that it spends nothing.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

from dp_train.expect import expect, shown
from dp_train.privacy.plan import PrivacyPlan
from dp_train.register import Register, canonical, fill
from dp_train.settled import settled
from dp_train.words import Word

if TYPE_CHECKING:
    from dp_train.training.optimizers import OptimizerFactory, Schedule


class ScheduleName(Word):
    """How the learning rate moves over the steps."""

    CONSTANT = "constant"
    LINEAR = "linear"


class OptimizerSpec(Protocol):
    """What `optimizer=NAME` leads to, with its numbers filled in."""

    def build(self, plan: PrivacyPlan) -> OptimizerFactory:
        """What makes the optimizer from the trainable parameters of a run under `plan`."""
        ...


OPTIMIZERS: Register[type[OptimizerSpec]] = Register(
    "optimizer",
    "dp_train.optimizers",
    {
        "adam_bc": "dp_train.training.adam_bc:AdamBCSpec",
        "adamw": "dp_train.training.optimizer_spec:AdamWSpec",
        "sgd": "dp_train.training.optimizer_spec:SgdSpec",
        "noise_scaled": "dp_train.training.optimizer_spec:NoiseScaledSpec",
    },
    needs=("build",),
)


@settled
@dataclass(kw_only=True)
class OptimizerConfig:
    """The optimizer and its schedule. A number that the chosen one does not take is refused, never ignored."""

    name: str
    """Which optimizer: a built-in one, an entry point of an installed package, or module:Name (docs/extending.md)."""
    learning_rate: float = 1e-3
    """Step length; of `noise_scaled` in units of the noise."""
    plain_learning_rate: float | None = None
    """Of `noise_scaled`: the rate of a run without privacy, which is AdamW then; null is `learning_rate`."""
    weight_decay: float = 0.0
    """Of `adamw`: share of each weight that is taken off, times the rate."""
    momentum: float = 0.0
    """Of `sgd`: decay of the average of gradients; AdamW's is `beta1`."""
    beta1: float = 0.9
    """Of `adamw` and `noise_scaled`: decay of the average of gradients."""
    beta2: float = 0.98
    """Of `adamw`, and of `noise_scaled` without privacy: decay of the average of squared gradients."""
    schedule: ScheduleName = ScheduleName.LINEAR
    """How the rate moves: `linear` rises, then falls to 0; `constant` stays."""
    warmup: float = 0.05
    """Of `linear`: share of the steps over which the rate rises."""
    options: dict[str, Any] = field(default_factory=dict)
    """Numbers of an optimizer from outside, by the names that its class gives them."""

    def __post_init__(self) -> None:
        expect(self, "optimizer.learning_rate", self.learning_rate > 0, "a rate > 0")
        plain = self.plain_learning_rate
        expect(self, "optimizer.plain_learning_rate", plain is None or plain > 0, "a rate > 0, or null")
        expect(self, "optimizer.weight_decay", self.weight_decay >= 0, "at least 0")
        for name in ("momentum", "beta1", "beta2"):
            expect(self, f"optimizer.{name}", 0 <= getattr(self, name) < 1, "a share in [0, 1)")
        expect(self, "optimizer.warmup", 0 <= self.warmup <= 1, "a share in [0, 1]")
        self.name = canonical(self.name)
        self._refuse_unused()
        self.spec()

    def spec(self) -> OptimizerSpec:
        """The chosen optimizer with its numbers.

        Raises:
          ConfigError: there is no such optimizer, or it does not take an option.
        """
        return fill(OPTIMIZERS.find(self.name), self, "optimizer")

    def make_schedule(self) -> Schedule:
        """Factor on the learning rate by step."""
        from dp_train.training.optimizers import constant, linear

        return linear(warmup=self.warmup) if self.schedule is ScheduleName.LINEAR else constant

    def _refuse_unused(self) -> None:
        """Raise ConfigError for a number that the chosen optimizer does not take and that is not its default."""
        taken: Any = OPTIMIZERS.find(self.name)
        used = {known.name for known in fields(taken)} | {"name", "schedule", "warmup", "options"}
        for known in fields(self):
            if known.name not in used and known.default is not MISSING:
                default = f"{known.default:g}" if isinstance(known.default, float) else shown(known.default)
                reason = f"{default} with optimizer={self.name}, which does not take it; it takes " + ", ".join(
                    sorted(name.name for name in fields(taken))
                )
                expect(self, f"optimizer.{known.name}", getattr(self, known.name) == known.default, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWSpec:
    """AdamW."""

    learning_rate: float
    weight_decay: float
    beta1: float
    beta2: float

    def build(self, plan: PrivacyPlan) -> OptimizerFactory:
        from dp_train.training.optimizers import adamw

        return adamw(lr=self.learning_rate, weight_decay=self.weight_decay, betas=(self.beta1, self.beta2))


@dataclass(frozen=True, slots=True, kw_only=True)
class SgdSpec:
    """SGD, with momentum where it is wanted."""

    learning_rate: float
    momentum: float

    def build(self, plan: PrivacyPlan) -> OptimizerFactory:
        from dp_train.training.optimizers import sgd

        return sgd(lr=self.learning_rate, momentum=self.momentum)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseScaledSpec:
    """Steps in units of the noise; see `optimizers.noise_scaled`."""

    learning_rate: float
    plain_learning_rate: float | None
    beta1: float
    beta2: float

    def build(self, plan: PrivacyPlan) -> OptimizerFactory:
        from dp_train.training.optimizers import noise_scaled

        return noise_scaled(
            plan, lr=self.learning_rate, plain_lr=self.plain_learning_rate, betas=(self.beta1, self.beta2)
        )
