"""Draws: whether the plan's sampler throws one coin of the planned rate a unit and step.

For a public number of units, B ÷ q, so that no private number enters. Sizes: Σ (Bₜ − mq)² ÷ mq(1 − q) is χ² with one
degree of freedom a step, m being the units whose turn it is. Units: how often each is drawn, likewise over units.
Steps: how many units are drawn at a step and again at the next of their turns. And the draws of some steps are those
of `privacy.draw_check`, which shares no code with the sampler.
"""

from __future__ import annotations

import math
import secrets

import numpy as np
from numpy.typing import NDArray

from dp_train.audit.checks import Check
from dp_train.audit.subject import Subject
from dp_train.privacy.draw_check import planned_draw

NAME = "batch sizes"
_STEPS, _AGAIN = 480, 16
_MOST_UNITS = 20_000


def batch_sizes(subject: Subject) -> Check:
    """Test what the plan's sampler draws."""
    plan, mechanism = subject.plan, subject.plan.mechanism
    law = mechanism.draw_law
    units = min(max(2, round(plan.expected_units / plan.sample_rate)), _MOST_UNITS, plan.population or _MOST_UNITS)
    seed = secrets.token_bytes(32)
    steps = law.groups * (_STEPS // law.groups) or law.groups  # whole rounds of turns
    draws = [mechanism.sampler.draw(step, units, seed) for step in range(steps)]
    observed = [mechanism.observe(step, units, seed) for step in range(steps)]
    findings = mechanism.violations([(len(draw), *rest) for draw, rest in zip(draws, observed, strict=True)], units)
    for step in np.linspace(0, steps - 1, _AGAIN).round().astype(int).tolist():
        planned = planned_draw(plan, step, units, seed)
        if planned is not None and planned != frozenset(draws[step].tolist()):
            findings = [*findings, "a step draws others than the planned sampler draws"]
    p: dict[str, float] = {}
    if law.cap is None and law.rate < 1:
        turns = [rest[0] if rest else units for rest in observed]
        p = poisson_p(draws, turns, units, law.rate, law.groups)
    return Check(
        name=NAME,
        compared=f"{steps} draws of the plan's sampler from a public number of units with coins of the planned rate",
        p_values=p,
        findings=tuple(dict.fromkeys(findings)),
    )


def poisson_p(
    draws: list[NDArray[np.int64]], turns: list[int], units: int, rate: float, groups: int
) -> dict[str, float]:
    """P-values of sizes, of how often each unit is drawn, and of units drawn in two turns running.

    Args:
      turns: how many units' turn each step is. rate: with which a unit is drawn in its turn. groups: that take turns.
    """
    from scipy.stats import norm

    sizes, expected = np.array([len(draw) for draw in draws]), np.array(turns) * rate
    seen = np.maximum(expected * (1 - rate), 1e-12)
    size = float(((sizes - expected) ** 2 / seen).sum())
    own_turns = len(draws) / groups
    counts = np.bincount(np.concatenate(draws), minlength=units)
    often = float(((counts - own_turns * rate) ** 2).sum() / (own_turns * rate * (1 - rate)))
    pairs = sum(len(np.intersect1d(one, other)) for one, other in zip(draws, draws[groups:], strict=False))
    trials = sum(turns[: len(draws) - groups])
    spread = trials * (rate**2 - rate**4) + 2 * trials * (rate**3 - rate**4)  # two pairs share the draw between them
    again = (pairs - trials * rate**2) / math.sqrt(max(spread, 1e-12))
    return {
        "sizes of draws": _squares_p(size, len(draws), float(np.mean(turns)), rate),
        "how often each unit is drawn": _squares_p(often, units, own_turns, rate),
        "units drawn in two turns running": float(2 * norm.sf(abs(again))),
    }


def _squares_p(total: float, count: int, trials: float, rate: float) -> float:
    """Two-sided p-value of a sum of `count` standardised squares of binomials of `trials` coins.

    Their fourth moment is that of a binomial, not of a normal, so that the sum is c χ² of count ÷ c degrees of freedom,
    with c such that mean and variance are right.
    """
    from scipy.stats import chi2

    variance = max(trials * rate * (1 - rate), 1e-12)
    c = 1 + (1 - 6 * rate * (1 - rate)) / (2 * variance)
    c = max(c, 1e-3)
    return float(min(1.0, 2 * min(chi2.cdf(total / c, count / c), chi2.sf(total / c, count / c))))


__all__ = ["batch_sizes", "poisson_p"]
