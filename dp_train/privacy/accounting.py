"""What events cost: the ε that Google's PLD accountant gives them (docs/privacy.md, One plan).

Events, a relation and δ are all that this file knows: a claim, a ledger line and a sum over a hundred runs are priced
by the same function, and a run costs the same whoever asks.

References: privacy loss distributions, Koskela et al. 2020 (arXiv 1906.03049) and Doroshenko et al. 2022
(arXiv 2207.04380); mixtures of Gaussians, Choquette-Choo et al. 2024 (arXiv 2310.15526).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dp_train.errors import PlanError
from dp_train.privacy.events import Grouped, event_from_json, grouped
from dp_train.privacy.intervals import BEYOND_MEANING, Shape, interval_for, rough_epsilon, shape_of
from dp_train.privacy.relations import NeighboringRelation
from dp_train.privacy.renyi import renyi_epsilon_of

_LEAST_MIXTURE = 1e-6
"""Least k·q of a mixture. At 1e-8 dp_accounting 0.6.0 gives δ(0) = 1e-22 where 5e-9 is true; from 3e-8 it is right."""

_overflow_means_infinity = np.errstate(over="ignore", divide="ignore")
"""With little noise dp_accounting's ratios of masses overflow, to the inf that they then stand for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """An ε, by which accountant, over which discretisation interval (None for Rényi); always an upper bound."""

    epsilon: float
    accountant: str
    interval: float | None


def price(
    events: Sequence[Any],
    relation: NeighboringRelation,
    delta: float,
    *,
    intervals: Sequence[float] | None = None,
    coarseness: float = 1.0,
) -> Price:
    """ε at `delta` of events whose parameters were all fixed before the first of them; an upper bound.

    | events | ε |
    |---|---|
    | none, or none that releases anything | 0 |
    | the chance that a person ever enters is at most δ | 0 |
    | without privacy, or without noise | inf |
    | an ε beyond 1e6 | inf |
    | a kind that has no loss distribution here, e.g. repeated selection | by Rényi; inf where that is not known |

    Equal steps are grouped, each group is one self-composition, and the loss distribution of a step is kept: a hundred
    equal runs take as long as one, and give the ε that composing them one by one gives.

    Args:
      events: `DpEvent`s of dp_accounting.
      relation: under which all of them are accounted. `REPLACE_SPECIAL` takes the runs of one person a unit too:
        to remove a unit from a sum, or to replace it by nothing, is the same.
      intervals: discretisation intervals of the loss. Each gives an upper bound and the least counts. The
        default is one interval (`intervals.interval_for`). 1e-5 changes the sixth digit of ε=1.8, and takes 10–20 s.
      coarseness: what the default interval is multiplied by, for searches that need the size of ε and not its digits.

    Raises:
      PlanError: a mixture so rare that the accountant is not exact.
    """
    return _price(grouped(events), relation, delta, None if intervals is None else tuple(intervals), coarseness)


@_overflow_means_infinity
def schedule(events: Sequence[Any], relation: NeighboringRelation, delta: float) -> tuple[float, ...]:
    """ε of each of `events`, in their order, where each is a longer or shorter run of the same step.

    The longest equals its `price`. The others come from ten times the interval, which adds less than 1e-3 to an ε near
    2, and from one discretisation of the step, which is much quicker than as many calls of `price`. Each is an upper
    bound, and the curve never falls with the steps.
    """
    found = [grouped([event]) for event in events]
    counts = [sum(count for _, count in steps) for steps in found]
    longest = max(range(len(found)), key=lambda index: counts[index], default=0)
    if not any(counts) or len({text for steps in found for text, _ in steps}) > 1:
        return tuple(price([event], relation, delta).epsilon for event in events)
    last = price([events[longest]], relation, delta)
    if last.interval is None or last.accountant != "pld":
        return tuple(price([event], relation, delta).epsilon for event in events)
    curve = {0: 0.0, counts[longest]: last.epsilon}
    ((text, _),) = found[longest]
    coarse = 10 * last.interval
    gaps: dict[int, Any] = {}
    spent, done = None, 0
    for count in sorted({*counts} - set(curve)):
        gap = count - done
        if gap not in gaps:
            gaps[gap] = _loss(text, gap, relation, coarse)
        spent, done = gaps[gap] if spent is None else spent.compose(gaps[gap]), count
        # ε only grows with the steps, so the last value bounds all before it.
        curve[count] = min(float(spent.get_epsilon_for_delta(delta)), last.epsilon)
    return tuple(curve[count] for count in counts)


@_overflow_means_infinity
def delta_curve(
    events: Sequence[Any], relation: NeighboringRelation, delta: float, deltas: Sequence[float]
) -> tuple[float, ...]:
    """ε at each of `deltas`, in their order: a guarantee is a curve, of which one point, at `delta`, is usually quoted.

    Raises:
      PlanError: a δ is out of range.
    """
    if not all(1e-11 <= value < 1 for value in deltas):
        raise PlanError("curve: a δ is out of range; expected values in [1e-11, 1)")
    steps = grouped(events)
    shapes = _shapes(steps)
    if not steps or shapes is None or rough_epsilon(shapes, delta) > BEYOND_MEANING:
        return tuple(_price(steps, relation, value, None, 1.0).epsilon for value in deltas)
    _check_mixtures(shapes)
    loss = _together(steps, relation, interval_for(shapes, delta))
    return tuple(float(loss.get_epsilon_for_delta(value)) for value in deltas)


@_overflow_means_infinity
def loss_distribution(
    events: Sequence[Any], relation: NeighboringRelation, delta: float, *, coarseness: float = 1.0
) -> Any:
    """dp_accounting's privacy loss distribution of all `events` together, pessimistic; None where they have none.

    Arguments as of `price`; the ε that it gives at `delta` is an upper bound.
    """
    steps = grouped(events)
    shapes = _shapes(steps)
    if not steps or shapes is None or rough_epsilon(shapes, delta) > BEYOND_MEANING:
        return None
    _check_mixtures(shapes)
    return _together(steps, relation, coarseness * interval_for(shapes, delta))


def cross_check(events: Sequence[Any], relation: NeighboringRelation, delta: float) -> Mapping[str, float]:
    """ε by accountant name: "pld", which is published, and "rdp" (Mironov 2017), which must not be smaller.

    "rdp" is left out where no Rényi divergence of the events is known, as for truncated draws.
    """
    values = {"pld": price(events, relation, delta).epsilon}
    by_renyi = renyi_epsilon_of(grouped(events), delta)
    if math.isfinite(by_renyi) or not math.isfinite(values["pld"]):
        values["rdp"] = by_renyi
    return values


@lru_cache(maxsize=2048)
@_overflow_means_infinity
def _price(
    steps: Grouped,
    relation: NeighboringRelation,
    delta: float,
    intervals: tuple[float, ...] | None,
    coarseness: float,
) -> Price:
    if not steps:
        return Price(epsilon=0.0, accountant="pld", interval=None)
    if any(text == _NON_PRIVATE for text, _ in steps):
        return Price(epsilon=math.inf, accountant="pld", interval=None)
    shapes = _shapes(steps)
    if shapes is None:
        return Price(epsilon=renyi_epsilon_of(steps, delta), accountant="rdp", interval=None)
    if sum(shape.presence for shape in shapes) <= delta:
        return Price(epsilon=0.0, accountant="pld", interval=None)
    if rough_epsilon(shapes, delta) > BEYOND_MEANING:
        return Price(epsilon=math.inf, accountant="pld", interval=None)
    _check_mixtures(shapes)
    found = [
        (float(_together(steps, relation, interval).get_epsilon_for_delta(delta)), interval)
        for interval in intervals or (coarseness * interval_for(shapes, delta),)
    ]
    epsilon, interval = min(found)
    return Price(epsilon=epsilon, accountant="pld", interval=interval)


_NON_PRIVATE = '{"event":"NonPrivateDpEvent"}'


def _shapes(steps: Grouped) -> list[Shape] | None:
    """The shape of each group; None where one of them has none."""
    found = [shape_of(event_from_json(text), count) for text, count in steps]
    shapes = [shape for shape in found if shape is not None]
    return shapes if len(shapes) == len(found) else None


def _check_mixtures(shapes: Sequence[Shape]) -> None:
    for shape in shapes:
        if shape.mixed and shape.expected_shift < _LEAST_MIXTURE * (1 - 1e-9):
            raise PlanError(
                f"plan: sample_rate × max_contributions={shape.expected_shift:g}; expected at least "
                f"{_LEAST_MIXTURE:g}, below which the accountant of mixtures is not exact; raise sample_rate or set "
                "max_contributions=1"
            )


def _together(steps: Grouped, relation: NeighboringRelation, interval: float) -> Any:
    """The loss distribution of all steps, rare ones first: most sums are then of short distributions."""
    total = None
    for text, count in sorted(steps, key=lambda step: step[1]):
        loss = _loss(text, count, relation, interval)
        total = loss if total is None else total.compose(loss)
    return total


def _loss(text: str, count: int, relation: NeighboringRelation, interval: float) -> Any:
    """The loss distribution of `count` equal steps."""
    from dp_accounting import NeighboringRelation as Relation
    from dp_accounting import dp_event
    from dp_accounting.pld import privacy_loss_distribution as pld

    step = event_from_json(text)
    if isinstance(step, dp_event.GaussianDpEvent):  # sums of Gaussians are Gaussian
        return pld.from_gaussian_mechanism(
            step.noise_multiplier / math.sqrt(count),
            value_discretization_interval=interval,
            neighboring_relation=Relation[relation.name],
        )
    return _step_loss(text, relation, interval).self_compose(count)


@lru_cache(maxsize=64)  # a megabyte or so each
def _step_loss(text: str, relation: NeighboringRelation, interval: float) -> Any:
    """The loss distribution of one step, as dp_accounting's own accountant makes it."""
    from dp_accounting import NeighboringRelation as Relation
    from dp_accounting import dp_event
    from dp_accounting.pld import privacy_loss_distribution as pld

    from dp_train.privacy.mixtures import mixture_loss, sampled_gaussian_loss

    step = event_from_json(text)
    if isinstance(step, dp_event.MixtureOfGaussiansDpEvent):
        return mixture_loss(step.standard_deviation, step.sensitivities, step.sampling_probs, interval)
    if isinstance(step, dp_event.TruncatedSubsampledGaussianDpEvent):
        return pld.from_truncated_subsampled_gaussian_mechanism(
            step.dataset_size,
            step.sampling_probability,
            step.truncated_batch_size,
            step.noise_multiplier,
            value_discretization_interval=interval,
            neighboring_relation=Relation[relation.name],
        )
    if step.sampling_probability < 1:  # adding or removing a unit, and replacing it by nothing, lose the same
        return sampled_gaussian_loss(step.event.noise_multiplier, step.sampling_probability, interval)
    return pld.from_gaussian_mechanism(
        step.event.noise_multiplier,
        value_discretization_interval=interval,
        neighboring_relation=Relation[relation.name],
    )


__all__ = ["Price", "cross_check", "delta_curve", "loss_distribution", "price", "schedule"]
