"""Choose as many groups as possible such that no person is in more than k of them: b-matching in a hypergraph.

The groups are lists of numbers: no word can reach this file, which is what the privacy argument of
`selection.bounded_contributions` rests on.

The problem is NP-hard for groups of three and more. What is done, all of it deterministic:

1. prices on people by subgradient steps on the Lagrangian dual of the linear relaxation; any prices y ≥ 0 bound what
   *every* selection can keep by Σ max(0, 1 − y(group)) + k·Σ y, so the answer comes with a certificate;
2. groups in the order of what their people cost together, taken greedily;
3. local search: one kept group gives way to two (Andrade, Resende and Werneck 2012, "Fast local search for the
   maximum independent set problem").

Reference for the dual: Held, Wolfe and Crowder 1974, "Validation of subgradient optimization".
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 300
_LOOKED_AT = 32  # candidates for a place in the local search: a star with 10⁵ rays must not be searched by pairs

_READINGS = 30  # of the graph by the local search, at most; counted, not timed, so that it ends the same everywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """Which groups are kept.

    Attributes:
      kept: indices, rising.
      upper_bound: no selection whatever keeps more than this.
    """

    kept: tuple[int, ...]
    upper_bound: int


def most_within(groups: Sequence[Sequence[int]], k: int) -> Matching:
    """Return a large set of groups in which no person is in more than `k`.

    Guarantee: a function of `groups` and `k` alone; no person is in more than `k` kept groups; no further group could
    be added; never fewer than the greedy selection "fewest people first, ties by index", which is given where nothing
    is larger; `upper_bound` is at least the size of every selection.

    Time: seconds for 10⁵ groups of 5·10⁴ people.

    Args:
      groups: people of each group as small numbers, each once; no group is empty.
      k: ≥ 1.
    """
    if not groups:
        return Matching(kept=(), upper_bound=0)
    prices, most = _prices(groups, k)
    by_size = sorted(range(len(groups)), key=lambda group: len(groups[group]))
    # Rounded, so that the last bit of a sum does not decide where groups cost the same.
    costs = [round(sum(prices[person] for person in people), 4) for people in groups]
    order = sorted(by_size, key=costs.__getitem__)
    selection = _Selection(groups, k)
    selection.add_all(order)
    selection.swap_one_for_two()
    selection.add_all(order)
    largest = max(greedy_within(groups, k), tuple(selection.kept()), key=len)  # the first of equals
    return Matching(kept=largest, upper_bound=max(most, len(largest)))


def greedy_within(groups: Sequence[Sequence[int]], k: int) -> tuple[int, ...]:
    """The baseline of Ganesh et al. 2025: fewest people first, ties by index."""
    selection = _Selection(groups, k)
    selection.add_all(sorted(range(len(groups)), key=lambda group: len(groups[group])))
    return tuple(selection.kept())


class _Selection:
    """A set of groups within the bound, that grows."""

    def __init__(self, groups: Sequence[Sequence[int]], k: int) -> None:
        self._groups = groups
        self._k = k
        self._keeps = bytearray(len(groups))
        self._uses = [0] * (1 + max((max(people) for people in groups), default=0))
        self._of: list[list[int]] = [[] for _ in self._uses]  # the groups of each person
        for group, people in enumerate(groups):
            for person in people:
                self._of[person].append(group)

    def kept(self) -> list[int]:
        return [group for group, keeps in enumerate(self._keeps) if keeps]

    def add_all(self, order: Iterable[int]) -> None:
        """Add each group that fits, in this order."""
        for group in order:
            if not self._keeps[group] and self._fits(group):
                self._add(group)

    def swap_one_for_two(self) -> None:
        """Until no kept group could give way to two others, or the graph was read a few dozen times."""
        work = _READINGS * sum(map(len, self._groups))
        waiting = deque(self.kept())
        queued = bytearray(self._keeps)
        while waiting and work > 0:
            group = waiting.popleft()
            queued[group] = 0
            if not self._keeps[group]:
                continue
            work -= sum(len(self._of[person]) for person in self._groups[group])
            candidates = self._held_back_by(group)
            if len(candidates) < 2:
                continue
            self._remove(group)
            for first in candidates:
                added = self._add_with(first, candidates)
                if len(added) > 1:
                    break
                self._remove(first)
            else:
                self._add(group)
                continue
            # Where people became free, kept groups around them may give way now.
            around = {other for person in self._groups[group] for other in self._of[person] if self._keeps[other]}
            for other in sorted(around.union(added)):
                if not queued[other]:
                    queued[other] = 1
                    waiting.append(other)

    def _held_back_by(self, kept: int) -> list[int]:
        """Groups that would fit if `kept` went, smallest first."""
        leaving, found = set(self._groups[kept]), set()
        for person in self._groups[kept]:
            if self._uses[person] < self._k:
                continue
            for group in self._of[person]:
                if self._keeps[group] or group in found:
                    continue
                if all(self._uses[other] < self._k or other in leaving for other in self._groups[group]):
                    found.add(group)
        return sorted(found, key=lambda group: (len(self._groups[group]), group))[:_LOOKED_AT]

    def _add_with(self, first: int, candidates: Sequence[int]) -> list[int]:
        """Add `first`, and whatever of `candidates` still fits beside it."""
        self._add(first)
        added = [first]
        for group in candidates:
            if not self._keeps[group] and self._fits(group):
                self._add(group)
                added.append(group)
        return added

    def _fits(self, group: int) -> bool:
        uses, k = self._uses, self._k
        return all(uses[person] < k for person in self._groups[group])

    def _add(self, group: int) -> None:
        self._keeps[group] = 1
        for person in self._groups[group]:
            self._uses[person] += 1

    def _remove(self, group: int) -> None:
        self._keeps[group] = 0
        for person in self._groups[group]:
            self._uses[person] -= 1


def _prices(groups: Sequence[Sequence[int]], k: int) -> tuple[list[float], int]:
    """What a place in each person's k costs, and the bound on every selection that these prices prove."""
    sizes = np.fromiter(map(len, groups), dtype=np.int64, count=len(groups))
    people = np.fromiter((person for group in groups for person in group), dtype=np.int64, count=int(sizes.sum()))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    owned = np.bincount(people)
    step_of = 0.3 / np.sqrt(np.maximum(owned, 1))
    prices: NDArray[np.float64] = np.where(owned > k, 0.3, 0.0)
    best, bound = prices, math.inf
    for iteration in range(_ITERATIONS):
        costs = np.add.reduceat(prices[people], starts)
        value = float(np.maximum(0.0, 1.0 - costs).sum() + k * prices.sum())
        if value < bound:
            best, bound = prices, value
        wanted = np.bincount(people, weights=np.repeat(costs < 1, sizes), minlength=len(owned))
        prices = np.maximum(0.0, prices + step_of * (wanted - k) / (1 + iteration) ** 0.7)
    # A selection has a whole size; the slack is for the rounding of 10⁵ terms.
    return best.tolist(), min(len(groups), math.floor(bound + 1e-6))
