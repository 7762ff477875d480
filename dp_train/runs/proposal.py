"""Numbers that a run has to declare, proposed from what files hold, and coarse: what `dp-train init` writes.

A declared number stands in cards, ledgers and trackers, so it must not be a count of people. Each of them is one of
1, 2, 5, 10, 20 … or a power of two: as coarse as a guess, and not the count itself. It still follows from the files, by
a step at the edges: whoever may not tell even that declares a number that is public anyway. No ε covers these numbers,
and ε holds whatever they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dp_train.errors import DataError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.survey import Rows

EPSILON, STEPS, DELTA = 8.0, 40, 1e-5
"""Where a proposal begins: ε and T of the quickstarts, and the default δ."""

_BOUNDS = (1, 2, 4, 8)
_WORTH = 1.1
"""A larger bound has to give so much more signal before its noise is proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Declared numbers of a run; see `runs.recipe_learning` for each.

    Attributes:
      population: N of q = B ÷ N: people where each has rows of their own, rows where rows are shared.
      shared: whether rows are shared, so that a unit is a row.
    """

    task: str
    population: int
    expected_units: int
    steps: int
    epsilon: float
    delta: float
    max_contributions: int
    rows_per_unit: int
    bands: int
    shared: bool

    @property
    def sample_rate(self) -> float:
        """q that follows."""
        return self.expected_units / self.population


def coarse(number: float) -> int:
    """Return the one of 1, 2, 5, 10, 20 … that is nearest by ratio, at least 1.

    >>> [coarse(number) for number in (0, 1, 3, 4, 26, 50, 74, 1400, 1500)]
    [1, 1, 2, 5, 20, 50, 100, 1000, 2000]
    """
    if number <= 1:
        return 1
    power = 10.0 ** math.floor(math.log10(number))
    choice = [int(step * power) for step in (1, 2, 5, 10)]
    return min(choice, key=lambda one: abs(math.log(number / one)))


def coarse_below(number: float) -> int:
    """Return the largest of 1, 2, 5, 10, 20 … that is not above the number, at least 1."""
    nearest = coarse(number)
    return nearest if nearest <= max(1, number) else coarse(nearest / 2.2)


def delta_for(people: int) -> float:
    """Return the default δ, or the power of ten that is at most a tenth of 1 ÷ the coarse number of people."""
    return min(DELTA, 10.0 ** math.floor(math.log10(1 / (10 * coarse(people)))))


def propose(task: str, rows: Rows) -> Proposal:
    """Propose the numbers of a run on these rows, if most people agree.

    Raises:
      DataError: there is nothing to learn from.
    """
    if not len(rows):
        raise DataError(
            f"the files hold nothing for task={task}; expected meetings with a summary for meeting_summary, messages "
            "in threads for chat_compose"
        )
    delta = delta_for(rows.num_owners)
    if rows.shared:
        k = _bound(rows, delta)
        return _sized(task, rows.kept(k, 1), delta=delta, k=k, rows_per_unit=1, shared=True)
    median = rows.per_person[1]
    return _sized(
        task, rows.num_owners, delta=delta, k=1, rows_per_unit=2 ** min(3, int(math.log2(max(1, median)))), shared=False
    )


def _sized(task: str, units: int, *, delta: float, k: int, rows_per_unit: int, shared: bool) -> Proposal:
    population, size = coarse(units), expected_units_for(units)
    return Proposal(
        task=task,
        population=population,
        expected_units=size,
        steps=STEPS,
        epsilon=EPSILON,
        delta=delta,
        max_contributions=k,
        rows_per_unit=rows_per_unit,
        bands=4 if k == 1 and 8 * size <= population else 1,  # groups that take turns need units enough
        shared=shared,
    )


def expected_units_for(units: int) -> int:
    """Return B: an eighth of the units, 50 to 200, and at most half of them; coarse."""
    population = coarse(units)
    return coarse_below(min(max(50, population / 8), 200, population / 2))


def _bound(rows: Rows, delta: float) -> int:
    """k with the most signal over noise at the proposed ε; a smaller one where a larger gains little."""
    best, most = 1, 0.0
    for k in _BOUNDS:
        kept = rows.kept(k, 1)
        one = _sized("", kept, delta=delta, k=k, rows_per_unit=1, shared=True)
        plan = PrivacyPlan(
            sample_rate=one.sample_rate,
            expected_units=one.expected_units,
            steps=one.steps,
            delta=delta,
            max_contributions=k,
            bands=one.bands,
        ).calibrate(epsilon=one.epsilon)
        signal = one.sample_rate * kept / plan.calibrated_noise_multiplier
        if signal > _WORTH * most:
            best, most = k, signal
        if kept == len(rows):
            break
    return best


__all__ = ["Proposal", "coarse", "coarse_below", "delta_for", "expected_units_for", "propose"]
