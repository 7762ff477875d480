"""The least noise for an ε: a search over σ, with the accountant asked as rarely as possible."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dp_train.errors import PlanError
from dp_train.privacy.accounting import price
from dp_train.privacy.relations import NeighboringRelation

_SIGMA_RANGE = (0.1, 1e5)
"""Where to look. Less noise than 0.1 protects nobody; more than 1e5 leaves nothing to learn from."""

_TOLERANCE = 1e-3
"""The search stops when ε lies this close below its target, relative."""


def least_noise(
    event_at: Callable[[float], Any], relation: NeighboringRelation, delta: float, *, epsilon: float
) -> float:
    """Return the least σ, rounded up to six digits, at which `event_at(σ)` costs at most `epsilon`.

    Guarantee: the price of `event_at` at the answer is at most `epsilon`; the answer is within 0.1 % of the least such
    σ. σ below 0.1 is never given, however large `epsilon` is.

    Args:
      event_at: the event of a run with noise multiplier σ.
      epsilon: target, > 0 and finite.

    Raises:
      PlanError: no such noise exists that leaves anything to learn from.
    """
    if not 0 < epsilon < math.inf:
        raise PlanError(f"plan: epsilon={epsilon!r}; expected a number > 0, or plan.without_privacy() for the baseline")

    def at(sigma: float, coarseness: float) -> float:
        return price([event_at(sigma)], relation, delta, coarseness=coarseness).epsilon

    # A ten times longer interval is some ten times quicker and lands next to the answer: one or two exact
    # evaluations are left. It beats a Rényi bracket, which misses by 10–15 % in ε.
    near = _least_sigma(lambda sigma: at(sigma, 10), epsilon, guess=1.0, spread=2.0)
    return _least_sigma(lambda sigma: at(sigma, 1), epsilon, guess=near, spread=1.01)


def _least_sigma(epsilon_at: Callable[[float], float], target: float, *, guess: float, spread: float) -> float:
    """Least σ of six digits with `epsilon_at(σ)` in [target · (1 − tolerance), target], ε falling with σ."""
    smallest, largest = _SIGMA_RANGE
    low, high = 0.0, math.inf  # ε(low) > target ≥ ε(high)
    low_epsilon, high_epsilon = math.inf, 0.0
    sigma = guess
    while True:
        sigma = _round_up(sigma)
        spent = epsilon_at(sigma)
        if spent > target:
            low, low_epsilon = sigma, spent
            if sigma >= largest:
                raise PlanError(
                    f"plan: ε={target:g} would need noise_multiplier > {largest:g}; "
                    "lower steps or sample_rate, or raise ε"
                )
        else:
            high, high_epsilon = sigma, spent
            if spent >= target * (1 - _TOLERANCE) or sigma <= smallest:
                return sigma
        if high == math.inf:
            sigma, spread = min(sigma * spread, largest), spread**1.5
        elif low == 0:
            sigma, spread = max(sigma / spread, smallest), spread**1.5
        elif high <= low * (1 + _TOLERANCE):
            return high
        else:
            sigma = _between(low, high, low_epsilon, high_epsilon, target)


def _between(low: float, high: float, low_epsilon: float, high_epsilon: float, target: float) -> float:
    """Where log ε, drawn straight over log σ, meets the target; inside the bracket by a tenth of its width."""
    part: float = 0.5
    if high_epsilon > 0 and low_epsilon < math.inf:
        aim = math.log(target * (1 - _TOLERANCE / 2))
        part = (math.log(low_epsilon) - aim) / (math.log(low_epsilon) - math.log(high_epsilon))
    return float(low * (high / low) ** min(max(part, 0.1), 0.9))


def _round_up(value: float) -> float:
    """Six significant digits, never below the value, so that a σ that is printed is the σ that ran."""
    scale = 10.0 ** (5 - math.floor(math.log10(value)))
    return float(f"{math.ceil(value * scale * (1 - 1e-12)) / scale:.6g}")


__all__ = ["least_noise"]
