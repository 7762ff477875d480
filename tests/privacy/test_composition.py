"""What runs cost together: reference figures, and the laws of the filter."""

import math

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from dp_train.errors import PlanError
from dp_train.privacy.composition import RenyiFilter, compose, event_from_json, event_json, renyi, renyi_epsilon
from dp_train.privacy.plan import NeighboringRelation

ADD_REMOVE = NeighboringRelation.ADD_OR_REMOVE_ONE


def sampled(sigma: float, rate: float = 0.05, steps: int = 1000) -> dp_event.DpEvent:
    return dp_event.SelfComposedDpEvent(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(sigma)), steps)


TWO = sampled(3.2787)
"""ε=2 at δ=1e-5 by PLD."""

TWO_BY_RENYI = sampled(3.5268)
"""ε=2 at δ=1e-5 by the Rényi accountant, the only one that prices choosing."""


def epsilon(*events: dp_event.DpEvent) -> float:
    return compose(events, ADD_REMOVE, 1e-5).epsilon


def test_five_runs_of_two_compose_to_less_than_ten() -> None:
    found = [epsilon(*[TWO] * runs) for runs in range(1, 6)]
    assert np.round(found, 2).tolist() == pytest.approx([2.00, 2.94, 3.69, 4.35, 4.95], abs=0.011)


def test_the_price_of_choosing_among_ten_and_fifty() -> None:
    composed = [epsilon(*[TWO_BY_RENYI] * trials) for trials in (10, 50)]
    assert composed == pytest.approx([6.78, 18.4], rel=1e-3)
    chosen = [
        [epsilon(dp_event.RepeatAndSelectDpEvent(TWO_BY_RENYI, mean, shape)) for shape in (0, 1, math.inf)]
        for mean in (10, 50)
    ]
    assert chosen[0] == pytest.approx([3.38, 4.00, 4.50], abs=0.006)
    assert chosen[1] == pytest.approx([3.85, 4.77, 12.3], abs=0.05)


@pytest.mark.parametrize(
    "event",
    [
        TWO,
        dp_event.ComposedDpEvent([TWO, dp_event.NoOpDpEvent()]),
        dp_event.MixtureOfGaussiansDpEvent(2.0, [0.0, 1.0, 2.0], [0.5, 0.3, 0.2]),
        dp_event.RepeatAndSelectDpEvent(TWO, 10, math.inf),
        dp_event.TruncatedSubsampledGaussianDpEvent(1000, 0.01, 30, 1.5),
        dp_event.NonPrivateDpEvent(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_comes_back_from_its_json(event: dp_event.DpEvent) -> None:
    assert event_from_json(event_json(event)) == event


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"event": "exit"}', '{"event": "GaussianDpEvent"}', '{"event": "attr"}']
)
def test_no_other_text_becomes_an_event(text: str) -> None:
    with pytest.raises(PlanError, match="no DpEvent"):
        event_from_json(text)


@pytest.mark.parametrize("order", [2, 5, 32])
def test_a_mixture_of_two_gaussians_has_the_divergence_of_poisson_sampling(order: int) -> None:
    mixture = dp_event.MixtureOfGaussiansDpEvent(2.0, [0.0, 1.0], [0.9, 0.1])
    known = RdpAccountant([order]).compose(dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(2.0))).rdp
    assert renyi(mixture, [order]) == pytest.approx(known, rel=1e-6)


@pytest.mark.parametrize("budget", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("event", [TWO, sampled(0.8, 0.02, 300), sampled(1.2, 1.0, 1)], ids=["small", "large", "whole"])
def test_the_filter_never_promises_less_than_exact_composition(budget: float, event: dp_event.DpEvent) -> None:
    for runs in (1, 3):
        assert RenyiFilter(budget, 1e-5).spent([event] * runs) >= epsilon(*[event] * runs)


def test_the_filter_is_no_more_than_a_fifth_dearer_than_exact_composition() -> None:
    for runs in (1, 3, 5):
        exact = epsilon(*[TWO] * runs)
        assert RenyiFilter(exact, 1e-5).spent([TWO] * runs) < 1.2 * exact


@given(epsilon=st.floats(0.05, 50), delta=st.floats(1e-10, 0.05))
def test_the_weights_of_a_filter_sum_to_at_most_one(epsilon: float, delta: float) -> None:
    orders = RenyiFilter(epsilon, delta).orders
    weights = [0.5 if step == 0 else 2.0 ** -(abs(step) + 2) for step in range(-4, 5)]
    assert len(weights) == len(orders)
    assert sum(weights) <= 1
    assert list(orders) == sorted(orders)
    assert orders[0] > 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(2.0, 20.0), min_size=1, max_size=4))
def test_more_runs_never_cost_less(sigmas: list[float]) -> None:
    events = [sampled(sigma, 0.1, 50) for sigma in sigmas]
    spent = [RenyiFilter(4.0, 1e-5).spent(events[:count]) for count in range(len(events) + 1)]
    assert spent == sorted(spent)
    assert spent[0] == 0


def test_an_adaptive_adversary_does_not_get_past_the_filter() -> None:
    """Exact losses of an adversary who, run by run, chooses σ by what it has seen: P(L > ε) stays within δ's bound."""
    rng, budget = np.random.default_rng(7), RenyiFilter(3.0, 0.05)
    choices = [dp_event.GaussianDpEvent(sigma) for sigma in (1.5, 3.0)]
    excess = []
    for _ in range(1500):
        events: list[dp_event.DpEvent] = []
        loss = 0.0
        while len(events) < 12:
            # After good luck it gambles, after bad luck it holds back: the choice depends on the outcomes.
            event = choices[0 if loss > 1 else 1]
            if not budget.allows([*events, event]):
                break
            events.append(event)
            mean = 1 / (2 * event.noise_multiplier**2)
            loss += rng.normal(mean, math.sqrt(2 * mean))
        excess.append(max(0.0, 1 - math.exp(3.0 - loss)))
    assert float(np.mean(excess)) <= 0.05


def test_renyi_is_an_upper_bound_of_exact_composition() -> None:
    assert renyi_epsilon([TWO, TWO], 1e-5) >= epsilon(TWO, TWO)
