"""ε over a whole distribution at once is the ε that dp_accounting finds loss by loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.pld_pmf import DensePLDPmf, PLDPmf, SparsePLDPmf
from hypothesis import given
from hypothesis import strategies as st

from dp_train.privacy.hockey_stick import epsilons_at

DELTAS = (1e-11, 1e-8, 1e-5, 1e-2, 0.3, 0.99)


@st.composite
def pmfs(draw: st.DrawFn) -> PLDPmf:
    """Distributions on a grid; a convolution may leave probabilities a little below 0, or mass at infinity."""
    weights = np.array(draw(st.lists(st.floats(0, 1), min_size=1, max_size=40)))
    infinite = draw(st.sampled_from([0.0, 1e-12, 1e-6, 0.4, 1.0]))
    probs = (1 - infinite) * weights / max(weights.sum(), 1e-3) - draw(st.sampled_from([0.0, 1e-18]))
    interval = draw(st.sampled_from([1e-4, 0.1, 25.0]))
    lowest = draw(st.integers(-30, 30))
    if draw(st.booleans()):
        return DensePLDPmf(interval, lowest, probs, infinite, True)
    return SparsePLDPmf({lowest + place: prob for place, prob in enumerate(probs)}, interval, infinite, True)


@given(pmfs(), st.lists(st.sampled_from(DELTAS) | st.floats(1e-11, 0.99), min_size=1, max_size=4))
def test_each_epsilon_is_the_one_of_dp_accounting(pmf: PLDPmf, deltas: list[float]) -> None:
    found = epsilons_at(pld.PrivacyLossDistribution(pmf), deltas)
    for delta, epsilon in zip(deltas, found, strict=True):
        try:
            with np.errstate(over="ignore"):
                known = float(pmf.get_epsilon_for_delta(delta))
        except (OverflowError, ValueError):  # its exponential is beyond a float, or its logarithm of nothing
            known = math.inf
        assert epsilon == pytest.approx(known, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("sigma", "rate", "steps"), [(0.6, 0.05, 200), (1.0, 0.01, 1000), (30.0, 0.5, 3)])
def test_both_directions_count(sigma: float, rate: float, steps: int) -> None:
    loss = pld.from_gaussian_mechanism(sigma, sampling_prob=rate, value_discretization_interval=1e-3).self_compose(
        steps
    )
    assert epsilons_at(loss, DELTAS) == pytest.approx([loss.get_epsilon_for_delta(delta) for delta in DELTAS], rel=1e-9)
