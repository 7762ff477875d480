"""dp_accounting's privacy loss distribution of a mixture of Gaussians, its bisection done for all points at once.

dp_accounting 0.6.0 inverts the privacy loss one midpoint at a time, which is 98 % of the time of a mixture. The
bisection here follows the same midpoints, bounds and rounding for every point, so that the distribution is the same.

Reference: Choquette-Choo et al. 2024 (arXiv 2310.15526), whose mixtures these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, MixtureGaussianPrivacyLoss
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class _AtOnce(MixtureGaussianPrivacyLoss):  # type: ignore[misc]
    """Overrides the bisection alone."""

    def _losses(self, points: Floats) -> Floats:
        """Privacy loss at each point; `privacy_loss` takes one."""
        sign = 1 if self.adjacency_type is AdjacencyType.ADD else -1
        slopes = sign * self.sensitivities / self._variance
        terms = np.add.outer(self._precompute_privacy_loss_constants, np.zeros_like(points)) + np.outer(slopes, points)
        losses: Floats = -sign * np.logaddexp.reduce(terms, axis=0)
        return losses

    def _inverse_privacy_losses_with_range(
        self, privacy_losses: Floats, bounds: tuple[float, float], precision: float = 1e-6
    ) -> Floats:
        """For each loss, the smallest multiple of `precision` at which the loss is at most that."""
        low, high = np.full_like(privacy_losses, bounds[0]), np.full_like(privacy_losses, bounds[1])
        searched = np.flatnonzero(high - low > precision)
        while len(searched):
            middle = (low[searched] + high[searched]) / 2
            right = privacy_losses[searched] < self._losses(middle)
            low[searched] = np.where(right, middle, low[searched])
            high[searched] = np.where(right, high[searched], middle)
            searched = searched[high[searched] - low[searched] > precision]
        points: Floats = np.floor(high / precision) * precision
        return points


def mixture_loss(sigma: float, sensitivities: Sequence[float], weights: Sequence[float], interval: float) -> Any:
    """What `from_mixture_gaussian_mechanism` gives: both directions, pessimistic, connecting the dots."""

    def one(adjacency: AdjacencyType) -> Any:
        loss = _AtOnce(sigma, sensitivities, weights, adjacency_type=adjacency)
        return pld._create_pld_pmf_from_monotone_privacy_loss(
            loss, value_discretization_interval=interval, use_connect_dots=True
        )

    return pld.PrivacyLossDistribution(one(AdjacencyType.REMOVE), one(AdjacencyType.ADD))
