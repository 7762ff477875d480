"""How sure a score is, given whose texts it was taken on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dp_train.conversations import Example
from dp_train.errors import DataError

_DRAWS = 1000
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % percentile interval of a score, and over how many groups of people it was taken."""

    low: float
    high: float
    groups: int


def interval_over_people(
    numerators: Sequence[float],
    denominators: Sequence[float],
    owners: Sequence[frozenset[str]],
    *,
    score: Callable[[float], float] = float,
) -> Interval:
    """Percentile bootstrap of ``score(Σ numerators ÷ Σ denominators)`` over people (Efron 1979).

    All examples of one person are drawn together, since they are alike: an interval over examples is too short where
    few people wrote most of them. Examples of the same several people (a meeting's) are drawn together as well;
    meetings that share some of their people are not, which is said by `Interval.groups` alone.

    Args:
      numerators, denominators: of each example, e.g. nats and words; a mean has denominators of 1.
      owners: whose words each example holds.
      score: monotone, e.g. `math.exp` of nats a word.

    Raises:
      DataError: there is no example.
    """
    if not numerators or not len(numerators) == len(denominators) == len(owners):
        raise DataError("interval: expected a numerator, a denominator and owners for each of at least one example")
    names = {people: number for number, people in enumerate(dict.fromkeys(owners))}
    group = np.array([names[people] for people in owners])
    above = np.bincount(group, weights=np.asarray(numerators, dtype=np.float64))
    below = np.bincount(group, weights=np.asarray(denominators, dtype=np.float64))
    drawn = np.random.default_rng(_SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), size=_DRAWS)
    totals = drawn @ below
    ratios = (drawn @ above)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(ratios, [0.025, 0.975]) if len(ratios) else (0.0, 0.0)
    ends = sorted((score(float(low)), score(float(high))))
    return Interval(low=ends[0], high=ends[1], groups=len(names))


def count_people(examples: Sequence[Example]) -> int:
    """How many people own the examples."""
    return len({person for example in examples for person in example.owners})
