"""The one plan: sampler, clipping, noise, event, ε and ledger line derive from it (PRIVACY.md §1)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dp_train.errors import PlanError
from dp_train.words import Word


class Unit(Word):
    """Whose data is protected: all of one person's, or one example's."""

    USER = "user"
    EXAMPLE = "example"


class NeighboringRelation(Enum):
    """Which two data sets must look alike; the names are those of dp_accounting."""

    ADD_OR_REMOVE_ONE = "add_or_remove_one"
    REPLACE_SPECIAL = "replace_special"


_CAP, _CURVE = ("max_batch_units", "population"), ("loss_noise_ratio", "loss_bound")


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Public numbers of one private training run; frozen, a change returns a new plan.

    Every field is public. What depends on the data (how many people, who, seeds) is an argument
    of the methods that need it, never a field, so that printing a plan releases nothing.

    Attributes:
      sample_rate: q, the probability with which a unit enters a step, in (0, 1].
      expected_units: B, the public divisor of the noisy sum, > 0.
      steps: T, number of noise draws, ≥ 1.
      clip_norm: C, the L2 bound of one unit's gradient, > 0. `inf` without privacy.
      noise_multiplier: σ, noise std ÷ C, ≥ 0. None until calibrated; 0 without privacy.
      unit: whose data is protected.
      max_contributions: k, how many examples one person may own, where examples have several owners.
      rows_per_unit: G, how many rows one person contributes, where examples have one owner.
      bands: b, over how many steps noise is correlated (`privacy.correlation`); 1 is independent noise. Units are
        dealt into b groups that take turns, each sampled at b·q ≤ 1, so that a step still expects q of all units.
      max_batch_units: a cap on the units of a step, for speed; a step that draws more leaves out some at random. None
        for no cap. What it costs depends on how many people there can be at most: `population`, declared and public.
      population: see `max_batch_units`; None without a cap.
      loss_noise_ratio: r, where the noisy training loss of each step is released, too: the sum of the units' losses,
        each cut to [0, `loss_bound`], with noise of std r·σ·loss_bound. None releases none. The losses are of the
        units that were drawn anyway, so a step with both is a release at noise multiplier σ ÷ √(1 + 1/r²).
      loss_bound: L, to which a unit's loss is cut.
      delta: δ, in [1e-11, 1).
    """

    sample_rate: float
    expected_units: int
    steps: int
    delta: float
    clip_norm: float = 1.0
    noise_multiplier: float | None = None
    unit: Unit = Unit.USER
    max_contributions: int = 1
    rows_per_unit: int = 1
    bands: int = 1
    max_batch_units: int | None = None
    population: int | None = None
    loss_noise_ratio: float | None = None
    loss_bound: float = 10.0

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, expected: str) -> None:
            if not ok:
                raise PlanError(f"plan: {name}={getattr(self, name)!r}; expected {expected}")

        check(0 < self.sample_rate <= 1, "sample_rate", "a probability in (0, 1]")
        check(self.expected_units >= 1, "expected_units", "at least 1")
        check(self.steps >= 1, "steps", "at least 1")
        check(1e-11 <= self.delta < 0.1, "delta", "a value in [1e-11, 0.1), below 1 ÷ population")
        check(self.clip_norm > 0, "clip_norm", "a norm > 0")
        finite = math.isfinite(self.clip_norm) or self.noise_multiplier == 0
        check(finite, "clip_norm", "a finite norm, for noise is a multiple of it")
        check(self.noise_multiplier is None or 0 <= self.noise_multiplier < math.inf, "noise_multiplier", "σ ≥ 0")
        check(self.max_contributions >= 1, "max_contributions", "at least 1")
        check(self.rows_per_unit >= 1, "rows_per_unit", "at least 1")
        check(1 <= self.bands <= self.steps, "bands", f"1 to steps={self.steps}")
        check(
            self.bands * self.sample_rate <= 1,
            "bands",
            f"at most 1 ÷ sample_rate={1 / self.sample_rate:.4g}: bands × sample_rate is a group's rate",
        )
        many = self.unit is Unit.USER and self.max_contributions > 1
        check(
            self.bands == 1 or not many, "bands", "1 with max_contributions > 1: one person's units take several turns"
        )
        check(
            (self.max_batch_units is None) == (self.population is None),
            "population",
            "a number if max_batch_units is one",
        )
        if self.max_batch_units is not None and self.population is not None:
            plain = self.bands == 1 and not many
            check(plain, "max_batch_units", "null with bands > 1 or max_contributions > 1, for which no event is known")
            mean = self.sample_rate * self.population
            check(
                self.max_batch_units >= mean,
                "max_batch_units",
                f"at least the mean, sample_rate × population = {mean:g}",
            )
        ratio = self.loss_noise_ratio
        check(ratio is None or 0 < ratio < math.inf, "loss_noise_ratio", "a number > 0, or None for no curve")
        check(0 < self.loss_bound < math.inf, "loss_bound", "a number > 0")

    @property
    def private(self) -> bool:
        """False for the non-private baseline, which runs through the same loop."""
        return self.noise_multiplier is None or self.noise_multiplier > 0

    @property
    def sigma(self) -> float:
        """The noise multiplier, once it is known."""
        if self.noise_multiplier is None:
            raise PlanError("plan: noise_multiplier is not set; call calibrate(epsilon=…) or give σ")
        return self.noise_multiplier

    @property
    def neighboring_relation(self) -> NeighboringRelation:
        """One unit more or less; for k > 1, one person's words replaced by nothing while who met whom stays."""
        if self.unit is Unit.USER and self.max_contributions > 1:
            return NeighboringRelation.REPLACE_SPECIAL
        return NeighboringRelation.ADD_OR_REMOVE_ONE

    def replace(self, **changes: Any) -> PrivacyPlan:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def without_privacy(self) -> PrivacyPlan:
        """The same sampling and steps with no clipping and no noise: the baseline."""
        return self.replace(clip_norm=math.inf, noise_multiplier=0.0, loss_noise_ratio=None)

    @property
    def loss_noise_std(self) -> float:
        """Std of the noise on the sum of a step's losses; 0 where no curve is released."""
        return 0.0 if self.loss_noise_ratio is None else self.loss_noise_ratio * self.sigma * self.loss_bound

    def event(self, steps: int | None = None) -> Any:
        """The `DpEvent` of the plan, or of its first `steps` steps: `accounting.event`."""
        from dp_train.privacy import accounting

        return accounting.event(self, steps)

    def epsilon(self, steps: int | None = None) -> float:
        """ε of the plan, or of its first `steps` steps: `accounting.epsilon`."""
        from dp_train.privacy import accounting

        return accounting.epsilon(self, steps=steps)

    def calibrate(self, *, epsilon: float) -> PrivacyPlan:
        """The plan with the least noise that spends at most `epsilon`: `accounting.calibrate`."""
        from dp_train.privacy import accounting

        return accounting.calibrate(self, epsilon=epsilon)

    def describe(self) -> dict[str, Any]:
        """The public fields as plain JSON values."""
        values = dataclasses.asdict(self)
        values["unit"] = self.unit.value
        values["neighboring_relation"] = self.neighboring_relation.value
        values["clip_norm"] = None if math.isinf(self.clip_norm) else self.clip_norm
        for names, absent in (_CAP, self.max_batch_units is None), (_CURVE, self.loss_noise_ratio is None):
            for name in names if absent else ():  # a plan without them has the digest that it always had
                del values[name]
        return values

    @property
    def digest(self) -> str:
        """SHA-256 of the public fields: names the plan in checkpoints, ledger and reports."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()
