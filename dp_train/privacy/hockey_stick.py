"""ε of a privacy loss distribution at given δ, over the whole distribution at once.

dp_accounting 0.6.0 walks the losses from above in a Python loop, anew for every δ; for the curve on a card that is a
quarter of a small run. The sums here run over the same losses in the same order, so that ε is the same but for the
last digit of an exponential.

Reference: Koskela, Jälkö, Honkela 2020 (arXiv 1906.03049), whose hockey-stick divergence this inverts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST_LOSS = -709.0
"""Below it the exponential of −loss overflows."""


def epsilons_at(distribution: Any, deltas: Sequence[float]) -> tuple[float, ...]:
    """Return what `distribution.get_epsilon_for_delta` returns, for each of `deltas`.

    Guarantee: the smallest ε ≥ 0 at which the divergence is at most δ, in both directions; infinite where there is
    none, or where losses reach so far down that sums overflow before one is found.

    Args:
      distribution: a `PrivacyLossDistribution` of dp_accounting.
    """
    pmfs = [distribution._pmf_remove]
    if not distribution._symmetric:
        pmfs.append(distribution._pmf_add)
    found = [_of_pmf(pmf, deltas) for pmf in pmfs]
    return tuple(max(of_delta) for of_delta in zip(*found, strict=True))


def _of_pmf(pmf: Any, deltas: Sequence[float]) -> list[float]:
    losses, probs = _descending(pmf)
    short = len(losses) if losses[-1] >= _LEAST_LOSS else int(np.argmax(losses < _LEAST_LOSS))
    cut = short < len(losses)
    losses, probs = losses[:short], probs[:short]
    upper = np.cumsum(np.concatenate([[pmf._infinity_mass], probs]))  # mass of the losses above each, and of all
    lower = np.cumsum(np.concatenate([[0.0], np.exp(-losses) * probs]))
    return [_of_sums(losses, upper, lower, delta, cut) for delta in deltas]


def _descending(pmf: Any) -> tuple[Floats, Floats]:
    """Losses from above, and the probability of each."""
    if not hasattr(pmf, "_probs"):  # a sparse one
        losses, probs = pmf._get_losses_probs()
        return np.asarray(losses, dtype=float)[::-1], np.asarray(probs, dtype=float)[::-1]
    steps = np.full(pmf.size, -pmf._discretization)
    steps[0] = (pmf._lower_loss + pmf.size - 1) * pmf._discretization
    return np.cumsum(steps), np.flip(pmf._probs)


def _of_sums(losses: Floats, upper: Floats, lower: Floats, delta: float, cut: bool) -> float:
    if upper[0] > delta:
        return math.inf
    far = (upper[1:] >= delta) & (lower[1:] == 0)  # losses so large that the other side counts as nothing
    passed = (upper[:-1] > delta) & (lower[:-1] > 0)
    crossings = np.full(len(losses), -math.inf)
    with np.errstate(over="ignore"):  # an infinite crossing lies above every loss, as the true one does
        crossings[passed] = np.log((upper[:-1][passed] - delta) / lower[:-1][passed])
    passed &= crossings >= losses
    first_far = int(np.argmax(far)) if far.any() else len(losses)
    first = int(np.argmax(passed)) if passed.any() else len(losses)
    if first_far < first:
        return max(0.0, float(losses[first_far]))
    if first == len(losses) and cut:
        return math.inf
    if upper[first] <= lower[first] + delta:
        return 0.0
    return math.log((float(upper[first]) - delta) / float(lower[first]))


__all__ = ["epsilons_at"]
