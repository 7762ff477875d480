"""Rényi divergences of events: a looser second bound, and the only one for repeated selection and for filters.

References: Mironov 2017 (arXiv 1702.07476); Canonne et al. 2020 (arXiv 2004.00010), Prop. 12, on the way to (ε, δ).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp_train.privacy.events import Grouped, event_from_json, grouped

_WIDE = (*(1 + x / 10 for x in range(1, 20, 3)), 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 128, 256)
"""Orders for mixtures, which are integrated one order after the other."""


def renyi(event: Any, orders: Sequence[float]) -> NDArray[np.float64]:
    """Rényi divergence of an event at each order, the larger of both directions; inf where nobody knows it.

    dp_accounting gives it for Poisson-sampled Gaussians, for Gaussians and for repeated selection. Mixtures of
    Gaussians are integrated here: their dominating pair is one-dimensional (Choquette-Choo et al. 2024, arXiv
    2310.15526), and what dominates in every (ε, δ) dominates in every Rényi divergence (Zhu et al. 2022, 2106.08567).
    """
    return renyi_of(grouped([event]), orders)


def renyi_of(steps: Grouped, orders: Sequence[float]) -> NDArray[np.float64]:
    """Rényi divergence of all `steps` together at each order: divergences add up."""
    wanted = tuple(float(order) for order in orders)
    total = np.zeros(len(wanted))
    for text, count in steps:
        total = total + count * np.array(_renyi(text, wanted))
    return total


def renyi_epsilon(events: Sequence[Any], delta: float) -> float:
    """ε of events declared together by Rényi: an upper bound, if a loose one; it knows repeated selection."""
    return renyi_epsilon_of(grouped(events), delta)


def renyi_epsilon_of(steps: Grouped, delta: float) -> float:
    """ε of all `steps` together by Rényi; inf where no divergence of theirs is known."""
    from dp_accounting.rdp.rdp_privacy_accountant import DEFAULT_RDP_ORDERS, compute_epsilon

    if not steps:
        return 0.0
    mixed = any("MixtureOfGaussians" in text for text, _ in steps)
    selects = any("RepeatAndSelect" in text for text, _ in steps)
    orders = [float(order) for order in (_WIDE if mixed and not selects else DEFAULT_RDP_ORDERS)]
    total = renyi_of(steps, orders)
    finite = [(order, value) for order, value in zip(orders, total, strict=True) if math.isfinite(value)]
    if not finite:
        return math.inf
    with quiet_accountant():
        return float(compute_epsilon([o for o, _ in finite], [v for _, v in finite], delta)[0])


@contextmanager
def quiet_accountant() -> Iterator[None]:
    """dp_accounting logs each order whose series does not converge and leaves it out: a larger ε at worst."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@lru_cache(maxsize=4096)
def _renyi(text: str, orders: tuple[float, ...]) -> tuple[float, ...]:
    from dp_accounting import NeighboringRelation as Relation
    from dp_accounting import dp_event
    from dp_accounting.rdp import RdpAccountant
    from dp_accounting.rdp.rdp_privacy_accountant import DEFAULT_RDP_ORDERS

    event = event_from_json(text)
    if isinstance(event, dp_event.MixtureOfGaussiansDpEvent):
        return tuple(_mixture(event, order) for order in orders)
    # Repeated selection is the better, the more orders it can choose its own second one from.
    selects = isinstance(event, dp_event.RepeatAndSelectDpEvent)
    all_orders = sorted({*orders, *map(float, DEFAULT_RDP_ORDERS)}) if selects else list(orders)
    accountant = RdpAccountant(all_orders, Relation.REPLACE_SPECIAL)
    if not accountant.supports(event):
        return (math.inf,) * len(orders)
    with quiet_accountant():
        accountant.compose(event)
    found = dict(zip(all_orders, (float(value) for value in accountant.rdp), strict=True))
    return tuple(found[order] if not math.isnan(found[order]) else math.inf for order in orders)


def _mixture(event: Any, order: float) -> float:
    """Rényi divergence of a mixture of Gaussians from a Gaussian, and back; by the trapezoid rule.

    The rule's error falls faster than any power of the step for integrands like these; 0.02 standard deviations leave
    the twelfth digit as it is.
    """
    from scipy.special import logsumexp

    sigma = event.standard_deviation
    shifts = np.asarray(event.sensitivities, dtype=float) / sigma
    logs = np.log(np.asarray(event.sampling_probs, dtype=float))
    far = float(shifts.max())
    points = np.arange(-15 - (order - 1) * far, 15 + order * far, 0.02)
    if len(points) * len(shifts) > 50_000_000:
        return math.inf  # so little noise, or so high an order, that the answer would be no use
    ratio = logsumexp(logs[:, None] + shifts[:, None] * points - shifts[:, None] ** 2 / 2, axis=0)
    base = -(points**2) / 2 + math.log(0.02 / math.sqrt(2 * math.pi))
    return max(float(logsumexp(base + power * ratio)) for power in (order, 1 - order)) / (order - 1)


__all__ = ["quiet_accountant", "renyi", "renyi_epsilon", "renyi_epsilon_of", "renyi_of"]
