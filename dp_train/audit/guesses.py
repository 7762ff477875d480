"""How many canaries to guess, decided by the plan alone and before any coin is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dp_train.audit.bounds import least_noise, steinke_epsilon
from dp_train.audit.scores import mechanism_scores, simulate
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.trade_off import Claim

_CANARIES = 40_000
"""How many are simulated in all, a run after the other: the mean of few runs of many says as much."""

_MOST_RUNS = 4
_LEVEL = 0.03
_FEWEST = 20


@dataclass(frozen=True, slots=True)
class Guesses:
    """Two numbers of guesses for one run.

    Attributes:
      planned: what makes the bound tight where the run is as planned.
      violated: what refutes a run with half the noise by most.
    """

    planned: int
    violated: int


@lru_cache(maxsize=64)
def planned_guesses(plan: PrivacyPlan, canaries: int, *, amplitude: float = 1.0) -> Guesses:
    """Choose the numbers of guesses that promise the tightest bounds, from simulated runs of the plan.

    Guarantee: a function of public numbers. The simulation has a fixed seed of its own, shared with no run.

    Args:
      canaries: m of the audit, whose turns are known. amplitude: as of `scores.sampled_gaussian_scores`.
    """
    claim, m = Claim.of(plan), canaries
    right = _right(plan, m, amplitude, 1.0)
    planned = min(_counts(m, 24), key=lambda r: least_noise(claim, m, r, int(right[r - 1]), _LEVEL) or math.inf)
    surely = _right(plan, m, amplitude, 0.5)
    violated = max(_counts(m, 40), key=lambda r: steinke_epsilon(m, r, int(surely[r - 1]), plan.delta, _LEVEL))
    return Guesses(planned=planned, violated=violated)


def _right(plan: PrivacyPlan, canaries: int, amplitude: float, noise_scale: float) -> NDArray[np.float64]:
    """(canaries,) how many of the first 1, 2, … guesses are right on average, by scores that know the noise.

    A guess by a log-likelihood ratio s is right with probability 1 ÷ (1 + e^−|s|), which is summed up instead of
    counting right guesses: the same mean with far less scatter.
    """
    from scipy.special import expit

    right = np.zeros(canaries)
    runs = min(_MOST_RUNS, max(1, _CANARIES // canaries))
    for run in range(runs):
        random = np.random.default_rng([run, 1])
        included, turns = random.random(canaries) < 0.5, random.integers(plan.mechanism.draw_law.groups, size=canaries)
        observed = simulate(plan, included, seed=run, noise_scale=noise_scale, amplitude=amplitude, turns=turns)
        scores = mechanism_scores(
            observed,
            plan,
            amplitude=amplitude,
            noise_multiplier=noise_scale * plan.calibrated_noise_multiplier,
            turns=turns,
        )
        right += np.sort(expit(np.abs(scores)))[::-1].cumsum() / runs
    return right


def _counts(canaries: int, how_many: int) -> list[int]:
    found: list[int] = np.unique(
        np.geomspace(min(_FEWEST, canaries), canaries, how_many).round().astype(np.int64)
    ).tolist()
    return found


__all__ = ["Guesses", "planned_guesses"]
