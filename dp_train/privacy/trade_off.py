"""How well anyone can tell two neighbours apart: the whole trade-off curve of an event, for audits.

A guarantee is a curve δ(ε); an attack on a run is bounded by all of it at once. `Claim` names a mechanism that is
claimed, `Claim.curve` the curve of that mechanism with its noise scaled.

References: f-differential privacy, Dong, Roth & Su 2019 (arXiv 1905.02383); its use in audits, Mahloujifar, Melis &
Chaudhuri 2024 (arXiv 2410.22235).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp_train.errors import PlanError
from dp_train.privacy.accounting import loss_distribution, price
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.relations import NeighboringRelation

_COARSE = 10.0
"""An audit needs three digits of a curve, and asks for a dozen of them."""

_POINTS = 400


@dataclass(frozen=True, slots=True)
class TradeOff:
    """Lines that bound the trade-off between neighbours P (someone is in) and Q (they are out), by turns.

    Guarantee: with x the mean of P(A) and Q(B), and y the mean of Q(A) and P(B), for any two events A and B,
    y ≤ δ(λ) + e^λ·x for every λ of the curve, where δ(λ) is the mean over both directions. By the larger of the two
    directions alone the bound would hold as well, and be looser: adding and removing a sampled unit differ.

    Attributes:
      epsilon: at the claim's δ, by the stricter direction; an upper bound, up to a tenth too large where ε is small.
      edges: (lines − 1,) y, rising, at which the next line takes over. slopes, offsets: (lines,) of x = slope · y +
        offset, the lines that are the largest anywhere.
    """

    epsilon: float
    edges: tuple[float, ...]
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def of(cls, epsilon: float, logs: NDArray[np.float64], deltas: NDArray[np.float64]) -> TradeOff:
        """Keep of the lines x ≥ (y − δ(λ)) · e^−λ those that are the largest at some y.

        Args:
          logs: (n,) λ, rising. deltas: (n,) δ(λ).
        """
        kept: list[tuple[float, float]] = []
        edges: list[float] = []
        for log, delta in zip(logs[::-1].tolist(), deltas[::-1].tolist(), strict=True):
            slope = math.exp(-log)  # rising
            offset = -delta * slope
            while kept:
                edge = (kept[-1][1] - offset) / (slope - kept[-1][0])
                if not edges or edge > edges[-1]:
                    edges.append(edge)
                    break
                kept.pop()
                edges.pop()
            kept.append((slope, offset))
        return cls(
            epsilon=epsilon,
            edges=tuple(edges),
            slopes=tuple(slope for slope, _ in kept),
            offsets=tuple(offset for _, offset in kept),
        )

    def least(self, chance: float) -> float:
        """The least x that y = `chance` allows: max over λ of (y − δ(λ)) · e^−λ, and 0."""
        line = bisect_left(self.edges, chance)
        return max(0.0, self.slopes[line] * chance + self.offsets[line])


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claimed mechanism and the family that scaling its noise makes of it. All public.

    Attributes:
      event: noise scale → `DpEvent`; at 1 the claimed one, above it noisier ones. Hashable, as a function is.
      relation: of the claim. delta: at which ε is read off.
    """

    event: Callable[[float], Any]
    relation: NeighboringRelation
    delta: float

    @classmethod
    def of(cls, plan: PrivacyPlan) -> Claim:
        """The claim that a calibrated plan makes.

        Raises:
          PlanError: σ is not set, or the plan is without privacy.
        """
        if not plan.private or plan.calibrated_noise_multiplier <= 0:
            raise PlanError("audit: the plan claims nothing; expected one with noise, for a claim to compare with")
        return cls(event=_Scaled(plan), relation=plan.neighboring_relation, delta=plan.delta)

    def curve(self, scale: float = 1.0) -> TradeOff:
        """The trade-off of the mechanism with its noise multiplied by `scale`.

        Raises:
          PlanError: it has no privacy loss distribution.
        """
        return _curve(self, scale)

    def epsilon(self, scale: float = 1.0) -> float:
        """ε of the mechanism with its noise multiplied by `scale`, priced as a plan's is; that of `curve` is coarse."""
        return price([self.event(scale)], self.relation, self.delta).epsilon


@dataclass(frozen=True, slots=True)
class _Scaled:
    plan: PrivacyPlan

    def __call__(self, scale: float) -> Any:
        return self.plan.replace(noise_multiplier=scale * self.plan.calibrated_noise_multiplier).event()


@lru_cache(maxsize=256)
def _curve(claim: Claim, scale: float) -> TradeOff:
    loss = loss_distribution([claim.event(scale)], claim.relation, claim.delta, coarseness=_COARSE)
    if loss is None:
        raise PlanError("audit: the claimed event has no privacy loss distribution; expected Gaussian steps")
    epsilon = float(loss.get_epsilon_for_delta(claim.delta))
    furthest = max(1.0, 2 * epsilon)
    rising = np.concatenate([[0.0], np.geomspace(1e-3, furthest, _POINTS)])
    mean = (_deltas(loss._pmf_remove, rising) + _deltas(loss._pmf_add, rising)) / 2
    # of −λ by the complement of each event: δ(−λ) = 1 − e^−λ + e^−λ·δ(λ), the directions changing places
    falling = -np.expm1(-rising[1:]) + np.exp(-rising[1:]) * mean[1:]
    logs = np.concatenate([-rising[:0:-1], rising])
    return TradeOff.of(epsilon, logs, np.concatenate([falling[::-1], mean]))


def _deltas(direction: Any, epsilons: NDArray[np.float64]) -> NDArray[np.float64]:
    """δ(ε) = P[ℓ > ε] − e^ε · Σ_{ℓ > ε} P[ℓ]·e^−ℓ of a loss distribution at many ε ≥ 0, in rising order.

    As `direction.get_delta_for_epsilon` has it, which walks through both lists in Python: a hundred times as long.
    """
    dense = direction.to_dense_pmf()
    losses = (np.arange(len(dense._probs)) + dense._lower_loss) * dense._discretization
    first = int(np.searchsorted(losses, 0.0, side="right"))
    losses, probs = losses[first:], np.asarray(dense._probs[first:], dtype=np.float64)
    above = np.concatenate([np.cumsum(probs[::-1])[::-1], [0.0]]) + dense._infinity_mass
    below = np.concatenate([np.cumsum((probs * np.exp(-losses))[::-1])[::-1], [0.0]])
    places = np.searchsorted(losses, epsilons, side="right")
    found: NDArray[np.float64] = above[places] - np.exp(epsilons) * below[places]
    return found


__all__ = ["Claim", "TradeOff"]
