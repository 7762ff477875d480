"""Inversion at all points at once finds what dp_accounting finds one by one."""

from __future__ import annotations

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss, MixtureGaussianPrivacyLoss

from dp_train.privacy.mixtures import _AtOnce, _GaussianAtOnce, mixture_loss, sampled_gaussian_loss


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


@pytest.mark.parametrize("adjacency", [AdjacencyType.ADD, AdjacencyType.REMOVE])
@pytest.mark.parametrize(("sigma", "rate"), [(0.5, 0.2), (1.0, 0.01), (30.0, 0.9), (2.0, 1e-6)])
def test_each_delta_of_a_sampled_gaussian_is_the_one_of_dp_accounting(
    sigma: float, rate: float, adjacency: AdjacencyType
) -> None:
    ours, theirs = (
        kind(sigma, sampling_prob=rate, adjacency_type=adjacency) for kind in (_GaussianAtOnce, GaussianPrivacyLoss)
    )
    edge = np.log1p(-rate)
    losses = np.concatenate([[edge, -edge, 0.0, 0.5 * edge, -0.5 * edge], np.linspace(-3.0, 20.0, 1001)])
    found, known = ours.get_delta_for_epsilon(losses), theirs.get_delta_for_epsilon(losses)
    np.testing.assert_allclose(found, known, rtol=1e-12, atol=1e-16)
    assert ours.get_delta_for_epsilon(0.1) == theirs.get_delta_for_epsilon(0.1)


@pytest.mark.parametrize(("sigma", "rate", "steps"), [(0.6, 0.05, 200), (1.0, 0.01, 1000), (8.0, 0.5, 500)])
def test_a_run_of_sampled_gaussians_costs_what_dp_accounting_says(sigma: float, rate: float, steps: int) -> None:
    ours = sampled_gaussian_loss(sigma, rate, 1e-3).self_compose(steps)
    theirs = pld.from_gaussian_mechanism(sigma, sampling_prob=rate, value_discretization_interval=1e-3)
    known = theirs.self_compose(steps).get_epsilon_for_delta(1e-6)
    assert ours.get_epsilon_for_delta(1e-6) == pytest.approx(known, rel=1e-8)
