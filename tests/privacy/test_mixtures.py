"""The bisection for all points at once finds what dp_accounting finds one by one."""

from __future__ import annotations

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, MixtureGaussianPrivacyLoss

from dp_train.privacy.mixtures import _AtOnce, mixture_loss


@pytest.mark.parametrize("adjacency", [AdjacencyType.ADD, AdjacencyType.REMOVE])
def test_each_point_is_the_one_of_dp_accounting(adjacency: AdjacencyType) -> None:
    arguments = (1.5, [0.0, 1.0, 2.0], [0.81, 0.18, 0.01])
    ours, theirs = (kind(*arguments, adjacency_type=adjacency) for kind in (_AtOnce, MixtureGaussianPrivacyLoss))
    losses = np.linspace(-0.2, 0.2, 101)
    assert ours.inverse_privacy_losses(losses).tolist() == theirs.inverse_privacy_losses(losses).tolist()


@pytest.mark.parametrize(("sigma", "rate"), [(0.8, 0.1), (4.0, 0.01)])
def test_the_distribution_is_the_one_of_dp_accounting(sigma: float, rate: float) -> None:
    weights = [(1 - rate) ** 2, 2 * rate * (1 - rate), rate**2]
    ours = mixture_loss(sigma, [0.0, 1.0, 2.0], weights, 1e-2)
    theirs = pld.from_mixture_gaussian_mechanism(sigma, [0.0, 1.0, 2.0], weights, value_discretization_interval=1e-2)
    for epsilon in (0.0, 0.1, 1.0):
        assert ours.get_delta_for_epsilon(epsilon) == pytest.approx(theirs.get_delta_for_epsilon(epsilon), rel=1e-12)
