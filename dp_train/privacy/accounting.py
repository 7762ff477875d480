"""What a plan costs: its `DpEvent`, and the ε that Google's PLD accountant gives it (PRIVACY.md §2, §3).

References: privacy loss distributions, Koskela et al. 2020 (arXiv 1906.03049) and Doroshenko et al. 2022
(arXiv 2207.04380); mixtures of Gaussians, Choquette-Choo et al. 2024 (arXiv 2310.15526); fixed-graph DP for people who
share examples, Ganesh et al. 2025 (arXiv 2503.03622).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from dp_train.errors import PlanError
from dp_train.privacy.plan import PrivacyPlan, Unit

_SIGMA_RANGE = (0.1, 1e5)
"""Where `calibrate` looks. Less noise than 0.1 protects nobody; more than 1e5 leaves nothing to learn from."""

_TOLERANCE = 1e-3
"""`calibrate` stops when ε lies this close below its target, relative."""

_BEYOND_MEANING = 1e6
"""An ε of this size is not computed; it is inf."""

_LEAST_MIXTURE = 1e-6
"""Least k·q of a mixture. At 1e-8 dp_accounting 0.6.0 gives δ(0) = 1e-22 where 5e-9 is true; from 3e-8 it is right."""

_QUICK_RATE = 1e-4
"""From this rate on the mixture of 0 and 1 stands in for the sampled Gaussian in searches."""

_overflow_means_infinity = np.errstate(over="ignore", divide="ignore")
"""With little noise dp_accounting's ratios of masses overflow, to the inf that they then stand for."""


def event(plan: PrivacyPlan, steps: int | None = None) -> Any:
    """The `dp_accounting.DpEvent` of a run: all that an accountant has to know.

    Every person owns one unit (k = 1): `steps` Poisson-sampled Gaussian releases. Every person owns at most k > 1
    units: the number of them that enter a step is Binomial(k, q), so a release is a mixture of Gaussians; for q = 1
    it is one Gaussian, of sensitivity k. With a cap on the units of a step it is the truncated Gaussian of Ganesh
    et al. 2025 (arXiv 2508.15089), for as many people as were declared. What a step releases of the losses is part of
    it (`released_at_once`).

    Args:
      steps: how many steps ran; all of the plan's, if not given.

    Raises:
      PlanError: σ is not set, or k > 1 and k·q is too small for the accountant.
    """
    from dp_accounting import dp_event

    count = rounds(plan, _count(plan, steps))
    plan = without_bands(plan)
    if count == 0:
        return dp_event.NoOpDpEvent()
    if not plan.private:
        return dp_event.NonPrivateDpEvent()
    if plan.max_batch_units is not None:
        rule = dp_event.TruncatedSubsampledGaussianDpEvent
        step = rule(plan.population, plan.sample_rate, plan.max_batch_units, plan.sigma)
    elif _contributions(plan) == 1:
        step = dp_event.PoissonSampledDpEvent(plan.sample_rate, dp_event.GaussianDpEvent(plan.sigma))
    elif plan.sample_rate == 1:
        step = dp_event.GaussianDpEvent(plan.sigma / plan.max_contributions)
    else:
        k, rate = plan.max_contributions, plan.sample_rate
        if k * rate < _LEAST_MIXTURE:
            raise PlanError(
                f"plan: sample_rate={rate:g} × max_contributions={k}; expected at least {_LEAST_MIXTURE:g}, "
                "below which the accountant of mixtures is not exact; raise sample_rate or set max_contributions=1"
            )
        step = dp_event.MixtureOfGaussiansDpEvent(plan.sigma, *_mixture(plan))
    return dp_event.SelfComposedDpEvent(step, count)


def epsilon(plan: PrivacyPlan, *, steps: int | None = None, intervals: Sequence[float] | None = None) -> float:
    """ε of the plan at its δ by privacy loss distributions; an upper bound.

    | plan | ε |
    |---|---|
    | 0 steps | 0 |
    | T·k·q ≤ δ: whether a person is ever drawn is within δ | 0 |
    | without privacy, or σ = 0 | inf |
    | an ε beyond 1e6 | inf |
    | σ not set | PlanError |

    Args:
      steps: how many steps ran; all of the plan's, if not given.
      intervals: discretisation intervals of the loss. Each gives an upper bound and the least counts. The
        default is one interval, 1e-4 (1e-3 for k > 1), shorter where a single step loses less than that and longer
        where losses pass 50. 1e-5 changes the sixth digit of ε=1.8, and takes 10–20 s.
    """
    count = rounds(plan, _count(plan, steps))
    plan = without_bands(plan)
    known = _known(plan, count)
    if known is not None:
        return known
    return min(_spent(plan, count, interval) for interval in intervals or (_interval(plan, count),))


@_overflow_means_infinity
def epsilon_schedule(plan: PrivacyPlan, steps: Sequence[int]) -> tuple[float, ...]:
    """ε after each of `steps` steps, in their order; each an upper bound, and the curve never falls.

    The last of them in time equals `epsilon`. Those before it come from ten times the interval, which adds less than
    1e-3 to an ε near 2, and from one discretisation of the step, which is much quicker than as many calls of `epsilon`.
    """
    if plan.bands > 1 or plan.loss_noise_ratio is not None:
        return epsilon_schedule(without_bands(plan), [rounds(plan, _count(plan, step)) for step in steps])
    counts = sorted({_count(plan, step) for step in steps})
    if not counts or _known(plan, counts[-1]) is not None:
        return tuple(epsilon(plan, steps=step) for step in steps)
    last = epsilon(plan, steps=counts[-1])
    curve = {0: 0.0, counts[-1]: last}
    if len(counts) > 1:
        one = _one_step(plan, 10 * _interval(plan, counts[-1]))
        gaps: dict[int, Any] = {}
        spent, done = None, 0
        for count in counts[:-1]:
            if count == 0:
                continue
            gap = count - done
            if gap not in gaps:
                gaps[gap] = one.self_compose(gap)
            spent, done = gaps[gap] if spent is None else spent.compose(gaps[gap]), count
            # ε only grows with the steps, so the last value bounds all before it.
            curve[count] = min(float(spent.get_epsilon_for_delta(plan.delta)), last)
    return tuple(curve[step] for step in steps)


@_overflow_means_infinity
def epsilon_delta_curve(plan: PrivacyPlan, deltas: Sequence[float]) -> tuple[float, ...]:
    """ε at each of `deltas`, in their order: a guarantee is a curve, of which one point is usually quoted."""
    if not all(1e-11 <= delta < 1 for delta in deltas):
        raise PlanError("curve: a δ is out of range; expected values in [1e-11, 1)")
    plan = without_bands(plan)
    if _known(plan, plan.steps) == math.inf:
        return (math.inf,) * len(deltas)
    accountant = _accountant(plan, plan.steps, _interval(plan, plan.steps))
    return tuple(float(accountant.get_epsilon(delta)) for delta in deltas)


def rounds(plan: PrivacyPlan, steps: int) -> int:
    """⌈steps ÷ b⌉, the Gaussian releases that `steps` steps with correlated noise amount to."""
    return -(-steps // plan.bands)


def released_at_once(plan: PrivacyPlan) -> PrivacyPlan:
    """The plan that releases gradients alone and spends as much: one whose noise multiplier is σ ÷ √(1 + 1/r²).

    A unit adds to a step a gradient of norm C at most, under noise of std σC, and a loss of L at most, under
    independent noise of std rσL. Both enter by one coin. In units of their noise they are one vector, of norm at
    most √(1/σ² + 1/(rσ)²); so the pair is one sampled Gaussian with the inverse of that for its multiplier.
    """
    ratio = plan.loss_noise_ratio
    if ratio is None:
        return plan
    sigma = plan.noise_multiplier
    return plan.replace(
        loss_noise_ratio=None, noise_multiplier=None if sigma is None else sigma / math.sqrt(1 + ratio**-2)
    )


def without_bands(plan: PrivacyPlan) -> PrivacyPlan:
    """The plan of independent noise on gradients alone that spends as much: ⌈T/b⌉ steps at rate b·q.

    See `privacy.correlation` and `released_at_once`. A loss under correlated noise is one more column of the matrix
    whose rows are the steps, and its share of a unit's norm is the same in each round.
    """
    plan = released_at_once(plan)
    if plan.bands == 1:
        return plan
    rate = min(1.0, plan.bands * plan.sample_rate)
    return plan.replace(bands=1, sample_rate=rate, steps=rounds(plan, plan.steps))


def cross_check(plan: PrivacyPlan) -> Mapping[str, float]:
    """ε by accountant name: "pld", which is published, and "rdp" (Mironov 2017), which must not be smaller.

    For k > 1, "rdp" integrates the mixture (`composition.renyi`). It knows no capped sampling: there is "pld" alone.
    """
    values = {"pld": epsilon(plan)}
    if plan.max_batch_units is not None:
        return values
    if _contributions(plan) == 1:
        from dp_accounting.rdp import RdpAccountant

        with _without_order_warnings():
            values["rdp"] = float(RdpAccountant().compose(event(plan)).get_epsilon(plan.delta))
    else:
        from dp_train.privacy.composition import renyi_epsilon

        values["rdp"] = renyi_epsilon([event(plan)], plan.delta)
    return values


@lru_cache(maxsize=64)  # a study asks for each of its plans several times, and each takes seconds
def calibrate(plan: PrivacyPlan, *, epsilon: float) -> PrivacyPlan:
    """The plan with the least noise that spends at most `epsilon`.

    Guarantee: the ε of the plan that comes back, computed anew, is at most `epsilon`; σ is within 0.1 % of the least
    such σ, rounded up to six digits. σ below 0.1 is never given, however large `epsilon` is.

    Args:
      epsilon: target, > 0 and finite.

    Raises:
      PlanError: no such noise exists that leaves anything to learn from.
    """
    if not 0 < epsilon < math.inf:
        raise PlanError(f"plan: epsilon={epsilon!r}; expected a number > 0, or plan.without_privacy() for the baseline")

    def at(sigma: float, coarseness: int) -> float:
        trial = without_bands(plan.replace(noise_multiplier=sigma))
        known = _known(trial, trial.steps)
        return _nearly_spent(trial, trial.steps, coarseness * _interval(trial, trial.steps)) if known is None else known

    # A ten times longer interval is some ten times quicker and lands next to the answer: one or two exact
    # evaluations are left. It beats a Rényi bracket, which misses by 10–15 % in ε.
    near = _least_sigma(lambda sigma: at(sigma, 10), epsilon, guess=1.0, spread=2.0)
    sigma = _least_sigma(lambda sigma: at(sigma, 1), epsilon, guess=near, spread=1.01)
    calibrated = plan.replace(noise_multiplier=sigma)
    while calibrated.epsilon() > epsilon:  # by a rounding of the quicker way, if ever
        sigma = _round_up(sigma * (1 + _TOLERANCE / 4))
        calibrated = plan.replace(noise_multiplier=sigma)
    return calibrated


def warn_if_delta_large(plan: PrivacyPlan, num_units: int) -> bool:
    """Whether δ ≥ 1 ÷ `num_units`, so that releasing one unit whole would be within the guarantee.

    The answer compares δ with a private number. Show it to whoever runs the training, and leave it out of
    what is published; a plan made for a declared population compares with that one instead.
    """
    return num_units > 0 and plan.delta >= 1 / num_units


def _least_sigma(epsilon_at: Callable[[float], float], target: float, *, guess: float, spread: float) -> float:
    """Least σ of six digits with `epsilon_at(σ)` in [target · (1 − tolerance), target], ε falling with σ."""
    smallest, largest = _SIGMA_RANGE
    low, high = 0.0, math.inf  # ε(low) > target ≥ ε(high)
    low_epsilon, high_epsilon = math.inf, 0.0
    sigma = guess
    while True:
        sigma = _round_up(sigma)
        spent = epsilon_at(sigma)
        if spent > target:
            low, low_epsilon = sigma, spent
            if sigma >= largest:
                raise PlanError(
                    f"plan: ε={target:g} would need noise_multiplier > {largest:g}; "
                    "lower steps or sample_rate, or raise ε"
                )
        else:
            high, high_epsilon = sigma, spent
            if spent >= target * (1 - _TOLERANCE) or sigma <= smallest:
                return sigma
        if high == math.inf:
            sigma, spread = min(sigma * spread, largest), spread**1.5
        elif low == 0:
            sigma, spread = max(sigma / spread, smallest), spread**1.5
        elif high <= low * (1 + _TOLERANCE):
            return high
        else:
            sigma = _between(low, high, low_epsilon, high_epsilon, target)


def _between(low: float, high: float, low_epsilon: float, high_epsilon: float, target: float) -> float:
    """Where log ε, drawn straight over log σ, meets the target; inside the bracket by a tenth of its width."""
    part: float = 0.5
    if high_epsilon > 0 and low_epsilon < math.inf:
        aim = math.log(target * (1 - _TOLERANCE / 2))
        part = (math.log(low_epsilon) - aim) / (math.log(low_epsilon) - math.log(high_epsilon))
    return float(low * (high / low) ** min(max(part, 0.1), 0.9))


def _round_up(value: float) -> float:
    """Six significant digits, never below the value, so that a σ that is printed is the σ that ran."""
    scale = 10.0 ** (5 - math.floor(math.log10(value)))
    return float(f"{math.ceil(value * scale * (1 - 1e-12)) / scale:.6g}")


def _count(plan: PrivacyPlan, steps: int | None) -> int:
    count = plan.steps if steps is None else steps
    if count < 0:
        raise PlanError(f"plan: steps={steps}; expected 0 or more")
    return count


def _known(plan: PrivacyPlan, steps: int) -> float | None:
    """An ε that needs no accountant, or None."""
    if steps == 0:
        return 0.0
    if not plan.private or _rough(plan, steps) > _BEYOND_MEANING:
        return math.inf
    return 0.0 if steps * _contributions(plan) * plan.sample_rate <= plan.delta else None


def _contributions(plan: PrivacyPlan) -> int:
    return plan.max_contributions if plan.unit is Unit.USER else 1


def _is_mixture(plan: PrivacyPlan) -> bool:
    return _contributions(plan) > 1 and plan.sample_rate < 1


def _mixture(plan: PrivacyPlan) -> tuple[list[float], list[float]]:
    """Sensitivities 0 … k and their probabilities; those that underflow to 0 are left out."""
    from scipy.stats import binom

    k = _contributions(plan)
    weights = [float(weight) for weight in binom.pmf(range(k + 1), k, plan.sample_rate)]
    kept = [(float(units), weight) for units, weight in enumerate(weights) if weight > 0]
    total = sum(weight for _, weight in kept)
    return [units for units, _ in kept], [weight / total for _, weight in kept]


def _loss_of_step(plan: PrivacyPlan) -> float:
    """Standard deviation of one step's privacy loss, by Bu et al. 2020 (arXiv 1911.11607); inf on overflow."""
    k = _contributions(plan)
    exponent = (k / plan.sigma) ** 2 if k > 1 and plan.sample_rate == 1 else 1 / plan.sigma**2
    return k * plan.sample_rate * math.sqrt(math.expm1(exponent)) if exponent < 700 else math.inf


def _rough(plan: PrivacyPlan, steps: int) -> float:
    """Size of ε, for choosing an interval only: central limit, and no more than without sampling."""
    if plan.sigma == 0:
        return math.inf
    tail = math.sqrt(2 * math.log(1 / plan.delta))
    means = (_loss_of_step(plan) * math.sqrt(steps), _contributions(plan) * math.sqrt(steps) / plan.sigma)
    return min(mean**2 / 2 + mean * tail for mean in means)


def _interval(plan: PrivacyPlan, steps: int) -> float:
    """Length of the discretisation interval: as fine as the step's loss needs, as coarse as the range of losses allows.

    The time goes with the number of points that cover the range: some 50,000 are affordable, and a tenth of
    them for mixtures, whose losses are searched for.
    """
    usual, points = (1e-4, 50_000) if _contributions(plan) == 1 else (1e-3, 5_000)
    affordable = max(_rough(plan, steps), _largest_loss(plan), 1e-12) / points
    if affordable > 10 * usual:
        return min(_power_of_ten(math.floor(math.log10(affordable))), 1.0)
    fine = math.floor(math.log10(max(_loss_of_step(plan), 1e-12) / 5))
    return max(min(usual, _power_of_ten(max(fine, math.ceil(math.log10(affordable))))), 1e-7)


def _power_of_ten(exponent: int) -> float:
    return float(f"1e{exponent}")


def _largest_loss(plan: PrivacyPlan) -> float:
    """Where dp_accounting cuts the loss of one step: ten standard deviations beyond the last share above e⁻⁵⁰."""
    sensitivities, weights = _mixture(plan)
    furthest = max(units for units, weight in zip(sensitivities, weights, strict=True) if weight > math.exp(-50))
    outcome = 10 * plan.sigma + furthest
    logs = [
        math.log(weight) + (units * outcome - units**2 / 2) / plan.sigma**2
        for units, weight in zip(sensitivities, weights, strict=True)
    ]
    return float(np.logaddexp.reduce(logs))


def _accountant(plan: PrivacyPlan, steps: int, interval: float) -> Any:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import PLDAccountant

    relation = NeighboringRelation[plan.neighboring_relation.name]
    return PLDAccountant(relation, value_discretization_interval=interval).compose(event(plan, steps))


@lru_cache(maxsize=512)
@_overflow_means_infinity
def _spent(plan: PrivacyPlan, steps: int, interval: float) -> float:
    if _is_mixture(plan):
        event(plan, steps)  # refuses what the accountant cannot do
        return float(_one_step(plan, interval).self_compose(steps).get_epsilon_for_delta(plan.delta))
    return float(_accountant(plan, steps, interval).get_epsilon(plan.delta))


@_overflow_means_infinity
def _nearly_spent(plan: PrivacyPlan, steps: int, interval: float) -> float:
    """`_spent` to seven digits; ten times quicker for the sampled Gaussian, which is a mixture of 0 and 1."""
    if plan.max_contributions > 1 or plan.max_batch_units is not None or not _QUICK_RATE <= plan.sample_rate < 1:
        return _spent(plan, steps, interval)
    from dp_train.privacy.mixtures import mixture_loss

    rate = plan.sample_rate
    loss = mixture_loss(plan.sigma, [0.0, 1.0], [1 - rate, rate], interval)
    return float(loss.self_compose(steps).get_epsilon_for_delta(plan.delta))


def _one_step(plan: PrivacyPlan, interval: float) -> Any:
    """Privacy loss distribution of one step, as the accountant makes it from `event`."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    if _is_mixture(plan):
        from dp_train.privacy.mixtures import mixture_loss

        return mixture_loss(plan.sigma, *_mixture(plan), interval)
    if plan.max_batch_units is not None:
        return pld.from_truncated_subsampled_gaussian_mechanism(
            plan.population, plan.sample_rate, plan.max_batch_units, plan.sigma, value_discretization_interval=interval
        )
    return pld.from_gaussian_mechanism(
        plan.sigma / _contributions(plan), sampling_prob=plan.sample_rate, value_discretization_interval=interval
    )


@contextmanager
def _without_order_warnings() -> Iterator[None]:
    """dp_accounting logs each Rényi order whose series does not converge and leaves it out: a larger ε at worst."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
