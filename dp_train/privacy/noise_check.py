"""Whether the noise of a run was there: what random elements of each tensor saw of it, against its law.

The plan says what noise ought to be added, an engine says what it asked for; neither is what happened. So the engine
compares random elements of each sum before and after, and the monitor compares what it finds with the normal law.
Everything here is private: it is about noise that nobody may know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from dp_train.privacy.plan import PrivacyPlan

_ROUNDING = 2e-3
"""By how much a sum of squares may be off, relative: float32 sums round what is added to them."""

_ALIKE, _ENOUGH = 12.0, 256
"""Products of independent noise, standardised, pass 12 with probability below 1e-15 where there are 256 or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseObservation:
    """What one release did to the elements that were watched.

    Attributes:
      squares: of each tensor, Σ (noise ÷ std)², `std` being that of the independent noise that was asked for.
      counts: of each tensor, how many elements; they were drawn for this release.
      lag_correlation: Σ of products with the noise of the same elements in one of the releases before, over std² · √n;
        of several releases, the one with which it is largest.
      cross_correlation: the same with the elements of the next tensor.
      sum_norm: L2 norm of the whole sum before the noise.
    """

    squares: tuple[float, ...]
    counts: tuple[int, ...]
    lag_correlation: float
    cross_correlation: float
    sum_norm: float


def violations(plan: PrivacyPlan, step: int, units: int, seen: NoiseObservation, *, false_alarm: float) -> list[str]:
    """What one release did that the plan's noise and clip cannot have done; reasons name public numbers alone."""
    found = []
    law = plan.mechanism.noise
    total, count = math.fsum(seen.squares), sum(seen.counts)
    if not normal_squares(total / law.variance(step), count, false_alarm=false_alarm):
        found.append("the noise that was added is not of the planned size")
    if count >= _ENOUGH and (
        abs(seen.cross_correlation) > _ALIKE or (law.independent and abs(seen.lag_correlation) > _ALIKE)
    ):
        found.append("the noise of a step repeats noise of another step or tensor")
    if not seen.sum_norm <= plan.clip_norm * units * (1 + _ROUNDING):
        found.append(f"a sum was larger than units clipped to clip_norm={plan.clip_norm:g} can make it")
    return found


def normal_squares(total: float, count: int, *, false_alarm: float) -> bool:
    """Whether `total` can be a sum of `count` squared standard normals; false with probability `false_alarm` if so."""
    if count == 0:
        return True
    low, high = _chi_squared(count, false_alarm)
    return low * (1 - _ROUNDING) <= total <= high * (1 + _ROUNDING)


@lru_cache(maxsize=256)
def _chi_squared(count: int, false_alarm: float) -> tuple[float, float]:
    from scipy.stats import chi2

    return float(chi2.ppf(false_alarm / 2, count)), float(chi2.isf(false_alarm / 2, count))


__all__ = ["NoiseObservation", "normal_squares", "violations"]
