"""How many canaries to guess, decided by the plan alone and before any coin is looked at."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dp_train.audit.bounds import guess, steinke_epsilon
from dp_train.audit.scores import mechanism_scores, simulate
from dp_train.privacy.plan import PrivacyPlan

_RUNS = 4
_NOISE_SCALES = (1.0, 0.5)
"""One count for a run as planned, which makes the bound tight, and one for a run with half its noise, to refute it."""


@lru_cache(maxsize=64)
def planned_guesses(plan: PrivacyPlan, canaries: int, *, amplitude: float = 1.0) -> tuple[int, ...]:
    """Choose the numbers of guesses that promise the tightest bounds, from simulated runs of the plan.

    Guarantee: a function of public numbers. The simulation has a fixed seed of its own, shared with no run.

    Args:
      canaries: m of the audit. amplitude: as of `scores.sampled_gaussian_scores`.

    Returns:
      One or two counts, for `bounds.steinke` and `bounds.f_dp`.
    """
    return tuple(dict.fromkeys(_best(plan, canaries, amplitude, scale) for scale in _NOISE_SCALES))


def _best(plan: PrivacyPlan, canaries: int, amplitude: float, noise_scale: float) -> int:
    counts = np.unique(np.geomspace(min(20, canaries), canaries, 40).astype(np.int64))
    right = np.zeros(canaries)
    for run in range(_RUNS):
        included = np.random.default_rng([run, 1]).random(canaries) < 0.5
        observed = simulate(plan, included, seed=run, noise_scale=noise_scale, amplitude=amplitude)
        chosen, guessed = guess(mechanism_scores(observed, plan, amplitude=amplitude), canaries, centre=0.0)
        right += (guessed == included[chosen]).cumsum() / _RUNS
    level = 0.05 / len(_NOISE_SCALES)
    return max(
        map(int, counts),
        key=lambda count: steinke_epsilon(canaries, count, int(right[count - 1]), plan.delta, level),
    )


__all__ = ["planned_guesses"]
