"""dp_accounting's privacy loss distributions of Gaussians and their mixtures, inverted at all points at once.

dp_accounting 0.6.0 inverts the privacy loss one point at a time, which is 98 % of the time of a mixture and 85 % of
that of a sampled Gaussian. The bisection here follows the same midpoints, bounds and rounding for every point, and the
closed form is the same formula over an array, so that the distributions are the same.

Reference: Choquette-Choo et al. 2024 (arXiv 2310.15526), whose mixtures these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss, MixtureGaussianPrivacyLoss
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


class _GaussianAtOnce(GaussianPrivacyLoss):  # type: ignore[misc]
    """Overrides the inversion alone, for sampling probabilities below 1."""

    def get_delta_for_epsilon(self, epsilon: Any) -> Any:
        """δ at each ε of an array; dp_accounting's own way for a single number."""
        if np.ndim(epsilon) == 0:
            return super().get_delta_for_epsilon(epsilon)
        losses = np.asarray(epsilon, dtype=float)
        edge, sign = np.log1p(-self.sampling_prob), 1.0 if self.adjacency_type is AdjacencyType.REMOVE else -1.0
        inside = sign * losses > edge  # beyond it, δ is 0 for ADD and 1 − e^ε for REMOVE
        deltas = np.where(inside, 0.0, -np.expm1(losses) if sign > 0 else 0.0)
        points = self._inverses(losses[inside], sign, edge)
        deltas[inside] = self.mu_upper_cdf(points) - np.exp(losses[inside] + self.mu_lower_log_cdf(points))
        return np.clip(deltas, 0, 1)

    def _inverses(self, losses: Floats, sign: float, edge: float) -> Floats:
        """Where the loss is ε: that of the unsampled Gaussian at ±log(1 + (e^±ε − 1) ÷ q)."""
        rate, signed = self.sampling_prob, sign * losses
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = signed - np.log(rate)
            unsampled = scaled + np.log1p(-np.exp(np.log(1 / rate - 1) - scaled))
        unsampled = np.where(signed == 0, np.log(1 / rate + (1 - 1 / rate)), unsampled)
        at_edge = np.isnan(unsampled) | np.isclose(signed, edge, rtol=1e-9, atol=0.0)
        unsampled = sign * np.where(at_edge, -np.inf, unsampled)
        points: Floats = -0.5 * self.sensitivity - unsampled * self._standard_deviation**2 / self.sensitivity
        return points if sign > 0 else self.sensitivity + points


def sampled_gaussian_loss(sigma: float, rate: float, interval: float) -> Any:
    """What `from_gaussian_mechanism` gives for a sampling probability below 1: both directions, pessimistic."""

    def one(adjacency: AdjacencyType) -> Any:
        loss = _GaussianAtOnce(sigma, sampling_prob=rate, adjacency_type=adjacency)
        return pld._create_pld_pmf_from_monotone_privacy_loss(
            loss, value_discretization_interval=interval, use_connect_dots=True
        )

    return pld.PrivacyLossDistribution(one(AdjacencyType.REMOVE), one(AdjacencyType.ADD))
