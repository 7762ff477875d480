"""How well a model remembers one secret among those that it might have been (Carlini et al. 2019, arXiv 1802.08232)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dp_train.errors import DataError


@dataclass(frozen=True, slots=True)
class Exposure:
    """Where a secret stands among its candidates by the model's loss.

    Attributes:
      rank: 1 where no candidate has a lower loss; candidates that tie with the secret share the mean of their places.
      candidates: how many there are, the secret among them.
    """

    rank: float
    candidates: int

    @property
    def bits(self) -> float:
        """log₂ candidates − log₂ rank: 0 in the last place, log₂ candidates in the first; chance gives 1.44."""
        return math.log2(self.candidates) - math.log2(self.rank)

    @property
    def percentile(self) -> float:
        """Share of the candidates that stand at its place or before: a p-value where the secret was drawn at random."""
        return self.rank / self.candidates


def exposure_of(losses: npt.ArrayLike, secret: int) -> Exposure:
    """Rank a secret among candidates by loss: negative log-likelihood, or loss now minus loss at the starting point.

    The loss has to be of the very words that differ, in one and the same context. A candidate that the starting point
    prefers anyway stands first without being remembered: draw the secret at random among the candidates, or take the
    difference to the start.

    Args:
      losses: (candidates,), lower where the model finds the words likelier. secret: index of the one that was trained
        on.

    Raises:
      DataError: a loss is not a number, or there is no such index.

    >>> exposure_of([0.1, 2.0, 3.0, 4.0], 0).bits
    2.0
    """
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 1 or np.isnan(values).any() or not 0 <= secret < len(values):
        raise DataError(
            f"exposure: losses of shape {values.shape} for one secret; expected (candidates,) numbers, the secret's too"
        )
    lower, equal = int((values < values[secret]).sum()), int((values == values[secret]).sum())
    return Exposure(rank=lower + (equal + 1) / 2, candidates=len(values))


def chance_of_ranks(found: Sequence[Exposure]) -> float:
    """Return the chance that secrets drawn at random stand as near the first place as these do: a one-sided p-value.

    By Fisher's method over their percentiles: −2 Σ log percentile against χ² with two degrees of freedom each. Ranks
    are discrete, so the chance is not smaller than it says.

    >>> round(chance_of_ranks([Exposure(rank=256.0, candidates=512)]), 6)
    0.5
    """
    from scipy.stats import chi2

    statistic = -2 * sum(math.log(min(1.0, math.ceil(one.rank) / one.candidates)) for one in found)
    return float(chi2.sf(statistic, 2 * len(found)))


__all__ = ["Exposure", "chance_of_ranks", "exposure_of"]
