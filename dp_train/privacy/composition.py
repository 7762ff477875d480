"""What several runs on the same people cost together, whether they were planned together or one after the other.

Two questions, two answers:

- **Declared together.** Parameters of all runs were fixed before the first of them read anything. Their privacy loss
  distributions compose exactly, also when *what* is asked is chosen on the way (`compose`).
- **Chosen on the way.** A user saw results and then chose σ, q, T or whether to go on. Composing the loss
  distributions or trade-off curves as if they had been fixed is then *not valid* (Tran et al. 2026, arXiv 2602.06756);
  a Rényi filter is (`RenyiFilter`).

References: Rogers et al. 2016 (arXiv 1605.08294) on filters; Feldman & Zrnic 2021 (arXiv 2008.11193) on the Rényi
filter; Whitehouse et al. 2023 (arXiv 2203.05481); Haney et al. 2023 (arXiv 2309.05901) on runs that overlap in time;
Canonne et al. 2020 (arXiv 2004.00010), Prop. 12, on the way from Rényi to (ε, δ).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dp_train.privacy.accounting import Price, price
from dp_train.privacy.events import Grouped, event_from_json, event_json, grouped
from dp_train.privacy.relations import NeighboringRelation
from dp_train.privacy.renyi import renyi, renyi_epsilon, renyi_of

_HALF_OCTAVES = range(-4, 5)
"""Orders of the filter: the one that suits the budget best, and four on each side, α−1 a factor √2 apart."""

_SAMPLED = 2**-0.75
"""How much lower α−1 is at its best for Poisson-sampled Gaussians than for Gaussians; found on twenty-two plans."""


def compose(events: Sequence[Any], relation: NeighboringRelation, delta: float) -> Price:
    """ε at `delta` of events that were declared together: `accounting.price`, as of a single run."""
    return price(events, relation, delta)


@dataclass(frozen=True, slots=True)
class RenyiFilter:
    """Says whether one more run may follow, whatever was seen before it was chosen.

    Guarantee: if every run was admitted when all runs so far and itself were within `allows`, all of them together are
    (`epsilon`, `delta`)-DP, though their parameters were chosen adaptively and though they overlap in time.

    Proof. Orders αⱼ and weights wⱼ with Σ wⱼ ≤ 1 depend on the budget alone. For each, exp((αⱼ−1)(L − Sⱼ)) is a
    supermartingale of mean at most 1, where L is the privacy loss so far and Sⱼ the sum of the Rényi divergences of the
    runs so far, each chosen given the past. At the end some j has Sⱼ ≤ Bⱼ, where cⱼ exp((αⱼ−1)(Bⱼ−ε)) = wⱼδ and
    cⱼ = (1−1/αⱼ)^(αⱼ−1) / αⱼ. As (1−e^(ε−L))₊ ≤ cⱼ exp((αⱼ−1)(L−ε)), the expected left side is at most Σ wⱼδ ≤ δ.

    Half the weight goes to the order that suits this budget and sampled Gaussians: log 2 ÷ (α−1) dearer in ε.
    """

    epsilon: float
    delta: float

    @property
    def orders(self) -> tuple[float, ...]:
        """αⱼ, rising."""
        tail = math.log(1 / self.delta)
        best = _SAMPLED * math.sqrt(tail) / (math.sqrt(self.epsilon + tail) - math.sqrt(tail))
        return tuple(1 + max(best * 2 ** (step / 2), 0.05) for step in _HALF_OCTAVES)

    def spent(self, events: Sequence[Any]) -> float:
        """The least ε at which a filter with these orders and weights would have admitted the events; inf if none."""
        return _filtered(grouped(events), self)

    def allows(self, events: Sequence[Any]) -> bool:
        """Whether the runs so far and the next, `events` together, are within the budget."""
        return self.spent(events) <= self.epsilon


@lru_cache(maxsize=1024)
def _filtered(steps: Grouped, budget: RenyiFilter) -> float:
    if not steps:
        return 0.0
    found = math.inf
    orders = budget.orders
    for step, order, sum_ in zip(_HALF_OCTAVES, orders, renyi_of(steps, orders), strict=True):
        weight = 0.5 if step == 0 else 2.0 ** -(abs(step) + 2)
        share = math.log(weight * budget.delta * order) / (order - 1)
        found = min(found, float(sum_) + math.log1p(-1 / order) - share)
    return max(found, 0.0)


__all__ = [
    "Price",
    "RenyiFilter",
    "compose",
    "event_from_json",
    "event_json",
    "renyi",
    "renyi_epsilon",
]
