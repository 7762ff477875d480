"""The one plan: sampler, clipping, noise, event, ε and ledger line derive from it (docs/privacy.md, One plan)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dp_train.errors import PlanError
from dp_train.privacy import accounting
from dp_train.privacy.calibration import least_noise
from dp_train.privacy.mechanisms.banded import Banded
from dp_train.privacy.mechanisms.base import Mechanism
from dp_train.privacy.mechanisms.epochs import Epochs
from dp_train.privacy.mechanisms.multi_owner import MultiOwner
from dp_train.privacy.mechanisms.poisson import Poisson
from dp_train.privacy.mechanisms.shuffled import Shuffled
from dp_train.privacy.mechanisms.truncated import Truncated
from dp_train.privacy.relations import NeighboringRelation, Unit

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
      epoch_steps: n, where every unit enters exactly once in n steps, and no coin is thrown; q is then 1 ÷ n. None for
        sampling. It goes with any number of bands.
      max_batch_units: a cap on the units of a step, for speed; a step that draws more leaves out some at random. None
        for no cap. What it costs depends on how many people there can be at most: `population`, declared and public.
      population: see `max_batch_units`; None without a cap.
      loss_noise_ratio: r, where the noisy training loss of each step is released, too: the sum of the units' losses,
        each cut to [0, `loss_bound`], with noise of std r·σ·loss_bound. None releases none. The losses are of the
        units that were drawn anyway, so a step with both is a release at noise multiplier σ ÷ √(1 + 1/r²).
      loss_bound: L, to which a unit's loss is cut.
      delta: δ, in [1e-11, 1).
      shuffled: whether units come in shuffled passes of `expected_units`; without privacy alone, for it has no event.
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
    epoch_steps: int | None = None
    max_batch_units: int | None = None
    population: int | None = None
    loss_noise_ratio: float | None = None
    loss_bound: float = 10.0
    shuffled: bool = False

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
        check(self.bands >= 1, "bands", f"1 to steps={self.steps}")
        epoch = self.epoch_steps
        check(epoch is None or epoch >= 1, "epoch_steps", "at least 1, or None for sampling")
        once = epoch is None or math.isclose(self.sample_rate * epoch, 1, rel_tol=1e-6)
        check(once, "sample_rate", f"1 ÷ epoch_steps={epoch}, for every unit enters once an epoch")
        check(
            (self.max_batch_units is None) == (self.population is None),
            "population",
            "a number if max_batch_units is one",
        )
        ratio = self.loss_noise_ratio
        check(ratio is None or 0 < ratio < math.inf, "loss_noise_ratio", "a number > 0, or None for no curve")
        check(0 < self.loss_bound < math.inf, "loss_bound", "a number > 0")
        check(not self.shuffled or not self.private, "shuffled", "False: shuffled passes have no ε")
        _ = self.mechanism  # refuses what it cannot do

    @property
    def private(self) -> bool:
        """False for the non-private baseline, which runs through the same loop."""
        return self.noise_multiplier is None or self.noise_multiplier > 0

    @property
    def calibrated_noise_multiplier(self) -> float:
        """The noise multiplier σ of a calibrated plan. Raises `PlanError` where it is not set yet."""
        if self.noise_multiplier is None:
            raise PlanError("plan: noise_multiplier is not set; call calibrate(epsilon=…) or give σ")
        return self.noise_multiplier

    @property
    def mechanism(self) -> Mechanism:
        """How the plan draws and adds noise: the one value that answers for it, wherever anybody asks.

        | bands | epoch_steps | max_batch_units | k, of a person | mechanism |
        |---|---|---|---|---|
        | 1 | None | None | 1 | `Poisson` |
        | 1 | None | None | > 1 | `MultiOwner` |
        | 1 | None | a number | 1 | `Truncated` |
        | > 1 | None | None | 1 | `Banded` |
        | any | a number | None | 1 | `Epochs` |

        Any other row is refused: no event is known for it. A released training curve (`loss_noise_ratio`) goes with
        every row: a step then releases gradients and losses at once, at noise multiplier σ ÷ √(1 + 1/r²). A unit adds
        a gradient of norm C at most, under noise of std σC, and a loss of L at most, under independent noise of std
        rσL, by one coin; in units of their noise they are one vector of norm at most √(1/σ² + 1/(rσ)²). Under
        correlated noise the loss is one more column of the matrix whose rows are the steps. `shuffled`, without
        privacy, is `Shuffled`.
        """
        if self.shuffled:
            return Shuffled(batch_units=self.expected_units)
        contributions = self.max_contributions if self.unit is Unit.USER else 1
        asked = [
            name
            for name, special in (
                ("max_batch_units", self.max_batch_units is not None),
                ("epoch_steps", self.epoch_steps is not None),
                ("bands", self.bands > 1 and self.epoch_steps is None),
                ("max_contributions", contributions > 1),
            )
            if special
        ]
        if len(asked) > 1:
            one, other = asked[:2]
            raise PlanError(
                f"plan: {one}={getattr(self, one)} with {other}={getattr(self, other)}; expected one of them, for no "
                f"event of both is known; leave out {one}"
            )
        rate, noise = self.sample_rate, self._noise_of_all_releases
        if self.max_batch_units is not None and self.population is not None:
            return Truncated(
                sample_rate=rate,
                noise_multiplier=noise,
                max_batch_units=self.max_batch_units,
                population=self.population,
            )
        if self.epoch_steps is not None:
            return Epochs(noise_multiplier=noise, epoch_steps=self.epoch_steps, bands=self.bands, steps=self.steps)
        if self.bands > 1:
            return Banded(sample_rate=rate, noise_multiplier=noise, bands=self.bands, steps=self.steps)
        if contributions > 1:
            return MultiOwner(sample_rate=rate, noise_multiplier=noise, max_contributions=contributions)
        return Poisson(sample_rate=rate, noise_multiplier=noise)

    @property
    def neighboring_relation(self) -> NeighboringRelation:
        """One unit more or less; for k > 1, one person's words replaced by nothing while who met whom stays."""
        return self.mechanism.relation

    def replace(self, **changes: Any) -> PrivacyPlan:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def with_contributions(self, bound: int) -> PrivacyPlan:
        """The plan with k = `bound`; above 1, where no event of both is known, without correlated noise and cap."""
        plain: dict[str, Any] = {} if bound == 1 else dict.fromkeys(("epoch_steps", *_CAP)) | {"bands": 1}
        return self.replace(max_contributions=bound, **plain)

    def without_privacy(self, *, shuffled: bool = False) -> PrivacyPlan:
        """The same steps with no clipping and no noise: the baseline, by the same sampling or in shuffled passes."""
        return self.replace(clip_norm=math.inf, noise_multiplier=0.0, loss_noise_ratio=None, shuffled=shuffled)

    @property
    def _noise_of_all_releases(self) -> float:
        """σ ÷ √(1 + 1/r²), see `mechanism`; 0, which bounds nothing, until σ is set."""
        sigma = self.noise_multiplier or 0.0
        return sigma if self.loss_noise_ratio is None else sigma / math.sqrt(1 + self.loss_noise_ratio**-2)

    @property
    def loss_noise_std(self) -> float:
        """Std of the noise on the sum of a step's losses; 0 where no curve is released."""
        return (
            0.0
            if self.loss_noise_ratio is None
            else self.loss_noise_ratio * self.calibrated_noise_multiplier * self.loss_bound
        )

    def charged(self, steps: int) -> int:
        """How many steps a run is charged of which `steps` ran: all, once one did.

        When to stop was not declared before, so a stop, a signal or a crash may have been chosen by what was seen; ε of
        the steps until then would hold for none of the ends that could have been chosen (docs/privacy.md).
        """
        return self.steps if steps > 0 else 0

    def event(self, steps: int | None = None) -> Any:
        """The `DpEvent` of the plan, or of its first `steps` steps: all that an accountant has to know.

        Raises:
          PlanError: σ is not set, or `steps` is negative.
        """
        from dp_accounting import dp_event

        count = self.steps if steps is None else steps
        if count < 0:
            raise PlanError(f"plan: steps={steps}; expected 0 or more")
        if count == 0:
            return dp_event.NoOpDpEvent()
        if not self.private:
            return dp_event.NonPrivateDpEvent()
        _ = self.calibrated_noise_multiplier  # refuses a plan that is not calibrated
        return self.mechanism.event(count)

    def epsilon(self, steps: int | None = None, *, intervals: Sequence[float] | None = None) -> float:
        """ε of the plan, or of its first `steps` steps, at its δ: the `accounting.price` of its event."""
        return accounting.price([self.event(steps)], self.neighboring_relation, self.delta, intervals=intervals).epsilon

    def epsilon_schedule(self, steps: Sequence[int]) -> tuple[float, ...]:
        """ε after each of `steps` steps, in their order: `accounting.schedule`. The last of them equals `epsilon`."""
        return accounting.schedule([self.event(step) for step in steps], self.neighboring_relation, self.delta)

    def delta_curve(self, deltas: Sequence[float], *, steps: int | None = None) -> tuple[float, ...]:
        """ε at each of `deltas`, in their order: `accounting.delta_curve`."""
        return accounting.delta_curve([self.event(steps)], self.neighboring_relation, self.delta, deltas)

    def calibrate(self, *, epsilon: float) -> PrivacyPlan:
        """The plan with the least noise that spends at most `epsilon`: `calibration.least_noise`."""
        return _calibrated(self, epsilon)

    def describe(self) -> dict[str, Any]:
        """The public fields as plain JSON values."""
        values = dataclasses.asdict(self)
        values["unit"] = self.unit.value
        values["neighboring_relation"] = self.neighboring_relation.value
        values["clip_norm"] = None if math.isinf(self.clip_norm) else self.clip_norm
        for names, absent in (
            (_CAP, self.max_batch_units is None),
            (_CURVE, self.loss_noise_ratio is None),
            (("epoch_steps",), self.epoch_steps is None),
            (("shuffled",), not self.shuffled),
        ):
            for name in names if absent else ():  # a plan without them has the digest that it always had
                del values[name]
        return values

    @property
    def digest(self) -> str:
        """SHA-256 of the public fields: names the plan in checkpoints, ledger and reports."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()


def warn_if_delta_large(plan: PrivacyPlan, num_units: int) -> bool:
    """Return whether δ ≥ 1 ÷ `num_units`, so that releasing one unit whole would be within the guarantee.

    The answer compares δ with a private number. Show it to whoever runs the training, and leave it out of
    what is published; a plan made for a declared population compares with that one instead.
    """
    return num_units > 0 and plan.delta >= 1 / num_units


@lru_cache(maxsize=64)  # a study asks for each of its plans several times, and each takes seconds
def _calibrated(plan: PrivacyPlan, epsilon: float) -> PrivacyPlan:
    sigma = least_noise(
        lambda sigma: plan.replace(noise_multiplier=sigma).event(),
        plan.neighboring_relation,
        plan.delta,
        epsilon=epsilon,
    )
    return plan.replace(noise_multiplier=sigma)


__all__ = ["NeighboringRelation", "PrivacyPlan", "Unit", "warn_if_delta_large"]
