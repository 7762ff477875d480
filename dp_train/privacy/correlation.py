"""Correlated noise: each step takes back some of the noise of the steps before it, at the price of sampling by turns.

With a strategy matrix C, lower-triangular, the run releases G + C⁻¹Z instead of G + Z, where row t of G is step t's
clipped sum and Z is independent noise: C⁻¹(CG + Z), so its privacy is that of CG + Z. What a model becomes is a sum
over steps, and in sums the noise of C⁻¹Z largely cancels.

C has b bands: what a unit adds at step t touches rows t … t + b − 1 of CG. If units take part at most every b-th step,
these rows are disjoint, and as all columns of C have norm 1, CG + Z is ⌈T/b⌉ Gaussian releases of sensitivity C, one
after the other. Units are dealt into b groups that take turns, and are drawn within their group with probability b·q,
so each release is Poisson-sampled at b·q (Choquette-Choo et al. 2023, arXiv 2306.08153, theorem 4 and §4; McKenna 2024,
arXiv 2405.15913). Few steps at a high rate cost more noise than many at a low one: b weighs that against what cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseLaw:
    """Row t of C⁻¹Z for the strategy C of `bands` bands over `steps` steps; one band is independent noise.

    Attributes:
      bands: over how many steps the noise is correlated.
      steps: with which the noise ends; of no account for independent noise.
    """

    bands: int
    steps: int

    @property
    def independent(self) -> bool:
        """Whether the noise of a step has nothing to do with that of another."""
        return self.bands == 1

    def variance(self, step: int) -> float:
        """Of row `step` of C⁻¹Z, where Z has variance 1."""
        if self.independent:
            return 1.0
        return _variances(self.bands, self.steps)[min(step, self.steps - 1)]


INDEPENDENT = NoiseLaw(bands=1, steps=1)


def strategy_coefficients(bands: int) -> NDArray[np.float64]:
    """(bands,) coefficients of the Toeplitz matrix whose scaled columns are the strategy C: 1, ½, ⅜, …

    The leading coefficients of the square root of the matrix of prefix sums (banded square root, Kalinin & Lampert
    2024, arXiv 2405.13763). With columns scaled to norm 1, C's error is within 6 % of that of optimised
    coefficients at the sizes of the quickstarts, and needs no optimiser to be the same everywhere.
    """
    steps = np.arange(1, bands)
    return np.concatenate([[1.0], np.cumprod((2 * steps - 1) / (2 * steps))])


def column_norms(coefficients: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """(steps,) norms of the columns of the Toeplitz matrix; the last ones are cut off by its end, and smaller."""
    kept = np.sqrt(np.cumsum(coefficients**2))
    left = steps - np.arange(steps)  # rows from a column's diagonal to the end
    norms: NDArray[np.float64] = kept[np.minimum(left, len(coefficients)) - 1]
    return norms


def inverse_coefficients(coefficients: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """(steps,) coefficients of the inverse of the Toeplitz matrix, by the recurrence that makes the noise."""
    inverse = np.zeros(steps)
    inverse[0] = 1.0
    for step in range(1, steps):
        reach = min(step, len(coefficients) - 1)
        inverse[step] = -coefficients[1 : reach + 1] @ inverse[step - reach : step][::-1]
    return inverse


def strategy(coefficients: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """(steps, steps) the strategy C itself; training never forms it."""
    rows, columns = np.indices((steps, steps))
    offset = rows - columns
    band = (offset >= 0) & (offset < len(coefficients))
    toeplitz = np.where(band, coefficients[np.clip(offset, 0, len(coefficients) - 1)], 0.0)
    return toeplitz / column_norms(coefficients, steps)


@lru_cache(maxsize=8)
def _variances(bands: int, steps: int) -> Sequence[float]:
    coefficients = strategy_coefficients(bands)
    squares = inverse_coefficients(coefficients, steps) ** 2
    found: list[float] = (squares.cumsum() * column_norms(coefficients, steps) ** 2).tolist()
    return found
