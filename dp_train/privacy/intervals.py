"""How finely a privacy loss is discretised: rough sizes of losses, for choosing an interval and for nothing else.

Every interval gives an upper bound of ε; a shorter one a closer bound, and more points to go through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BEYOND_MEANING = 1e6
"""An ε of this size is not computed; it is inf."""

_POINTS, _POINTS_OF_MIXTURES = 50_000, 5_000
"""How many points a range of losses may take; fewer where losses are searched for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`count` equal steps, each a mixture of Gaussians: a person adds `shifts[i]` with probability `weights[i]`.

    Attributes:
      sigma: std of the noise; 0 where there is none.
      shifts: sensitivities whose probability is not 0.
      mixed: whether there are more than "absent" and "present once".
    """

    sigma: float
    shifts: Sequence[float]
    weights: Sequence[float]
    count: int
    mixed: bool

    @property
    def expected_shift(self) -> float:
        """k·q: what a person adds to a step on average."""
        return sum(shift * weight for shift, weight in zip(self.shifts, self.weights, strict=True))

    @property
    def presence(self) -> float:
        """At least the probability with which the person enters any of the steps."""
        return self.count * sum(weight for shift, weight in zip(self.shifts, self.weights, strict=True) if shift > 0)


def shape_of(step: Any, count: int) -> Shape | None:
    """The shape of `count` steps; None where they are of another kind, which Rényi alone may price."""
    from dp_accounting import dp_event

    if isinstance(step, dp_event.GaussianDpEvent):
        return _shape(step.noise_multiplier, [1.0], [1.0], count)
    if isinstance(step, dp_event.PoissonSampledDpEvent) and isinstance(step.event, dp_event.GaussianDpEvent):
        rate = step.sampling_probability
        return _shape(step.event.noise_multiplier, [0.0, 1.0], [1 - rate, rate], count)
    if isinstance(step, dp_event.TruncatedSubsampledGaussianDpEvent):
        rate = step.sampling_probability
        return _shape(step.noise_multiplier, [0.0, 1.0], [1 - rate, rate], count)
    if isinstance(step, dp_event.MixtureOfGaussiansDpEvent):
        return _shape(step.standard_deviation, step.sensitivities, step.sampling_probs, count, mixed=True)
    return None


def rough_epsilon(shapes: Sequence[Shape], delta: float) -> float:
    """Size of ε: by the central limit, and no more than without sampling."""
    if any(shape.sigma == 0 for shape in shapes):
        return math.inf
    tail = math.sqrt(2 * math.log(1 / delta))
    sampled = math.sqrt(sum(shape.count * _loss(shape) ** 2 for shape in shapes))
    unsampled = math.sqrt(sum(shape.count * (max(shape.shifts) / shape.sigma) ** 2 for shape in shapes))
    return min(mean**2 / 2 + mean * tail for mean in (sampled, unsampled))


def interval_for(shapes: Sequence[Shape], delta: float) -> float:
    """Length of the interval: as fine as one step's loss needs, as coarse as the range of all losses allows.

    1e-4 (1e-3 with mixtures) is usual; it is shorter where a step loses less than that and longer where losses pass 50
    or where steps of many kinds have a distribution each.
    """
    mixed = any(shape.mixed for shape in shapes)
    usual, points = (1e-3, _POINTS_OF_MIXTURES) if mixed else (1e-4, _POINTS)
    largest = max(_largest_loss(shape) for shape in shapes)
    affordable = max(rough_epsilon(shapes, delta), largest, 1e-12) / points
    if affordable > 10 * usual:
        return min(_power_of_ten(math.floor(math.log10(affordable))), 1.0)
    if len(shapes) > 1:  # as many points in all as the usual interval may take for one
        usual = max(usual, _power_of_ten(math.floor(math.log10(affordable * len(shapes) / 10))))
    least = min(_loss(shape) for shape in shapes)
    fine = math.floor(math.log10(max(least, 1e-12) / 5))
    return max(min(usual, _power_of_ten(max(fine, math.ceil(math.log10(affordable))))), 1e-7)


def _shape(
    sigma: float, shifts: Sequence[float], weights: Sequence[float], count: int, *, mixed: bool = False
) -> Shape:
    kept = [(float(shift), float(weight)) for shift, weight in zip(shifts, weights, strict=True) if weight > 0]
    return Shape(
        sigma=float(sigma),
        shifts=[shift for shift, _ in kept],
        weights=[weight for _, weight in kept],
        count=count,
        mixed=mixed,
    )


def _loss(shape: Shape) -> float:
    """Standard deviation of one step's privacy loss, by Bu et al. 2020 (arXiv 1911.11607); inf on overflow."""
    exponent = 1 / shape.sigma**2
    return shape.expected_shift * math.sqrt(math.expm1(exponent)) if exponent < 700 else math.inf


def _largest_loss(shape: Shape) -> float:
    """Where dp_accounting cuts the loss of one step: ten standard deviations beyond the last share above e⁻⁵⁰."""
    pairs = list(zip(shape.shifts, shape.weights, strict=True))
    furthest = max(shift for shift, weight in pairs if weight > math.exp(-50))
    outcome = 10 * shape.sigma + furthest
    logs = [math.log(weight) + (shift * outcome - shift**2 / 2) / shape.sigma**2 for shift, weight in pairs]
    return float(np.logaddexp.reduce(logs))


def _power_of_ten(exponent: int) -> float:
    return float(f"1e{exponent}")


__all__ = ["BEYOND_MEANING", "Shape", "interval_for", "rough_epsilon", "shape_of"]
