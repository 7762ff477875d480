"""Scores by which canaries and people are told to be in or out, higher for "in"; numbers in, numbers out.

White box: the mechanism's own likelihood ratio, which no other score of the same observations beats. Black box:
losses against the public starting point, and against reference models (RMIA).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from dp_train.errors import DataError
from dp_train.privacy.correlation import column_norms, strategy, strategy_coefficients
from dp_train.privacy.plan import PrivacyPlan

_AS_PLANNED = 0.1

_BLOCK = 4096  # canaries at a time: bounds the memory of whitened copies


def sampled_gaussian_scores(
    observed: npt.ArrayLike,
    *,
    noise_multiplier: float,
    sample_rate: float,
    amplitude: float = 1.0,
    contributions: int = 1,
) -> NDArray[np.float64]:
    """Log-likelihood ratio of Dirac canaries, in against out, under independent noise.

    In step t canary i adds a·J to its coordinate, J ~ Binomial(k, q), under noise N(0, σ²):

        score_i = Σ_t log Σ_j P[J = j] · exp((a·j·y_ti − (a·j)² ÷ 2) ÷ σ²).

    Args:
      observed: (steps, m) y, each canary's coordinate of the noised sums ÷ clip norm.
      noise_multiplier: σ. sample_rate: q, of a unit in a step.
      amplitude: a, what is left of a canary's gradient after the clip, ÷ clip norm.
      contributions: k, how many units of its person each canary is; 1 for one unit a person.

    Returns:
      (m,) scores; 0 where in and out are equally likely.

    Raises:
      DataError: not (steps, m) numbers.

    >>> sampled_gaussian_scores([[1.0, 0.0]], noise_multiplier=1.0, sample_rate=1.0).tolist()
    [0.5, -0.5]
    """
    from scipy.special import logsumexp
    from scipy.stats import binom

    seen = _observations(observed)
    counts = np.arange(contributions + 1)
    with np.errstate(divide="ignore"):
        log_weights = binom.logpmf(counts, contributions, sample_rate)
    shifts = amplitude * counts
    scores = np.zeros(seen.shape[1])
    if contributions == 1:
        for row in seen:  # (m,)
            scores += _log_mixture((amplitude * row - amplitude**2 / 2) / noise_multiplier**2, sample_rate)
        return scores
    for row in seen:
        exponents = (row[:, None] * shifts - shifts**2 / 2) / noise_multiplier**2  # (m, k + 1)
        scores += logsumexp(exponents + log_weights, axis=1)
    return scores


def banded_scores(
    observed: npt.ArrayLike,
    *,
    noise_multiplier: float,
    sample_rate: float,
    bands: int,
    groups: int | None = None,
    amplitude: float = 1.0,
    turns: npt.ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Log-likelihood ratio of Dirac canaries under correlated noise and sampling by turns (`privacy.correlation`).

    The observations are Y = X + σ·C⁻¹Z, so W = CY = CX + σZ has independent noise again. A canary that enters at step t
    adds column c_t of C to W. It belongs to one of n groups and enters at a turn of its group with probability nq; its
    columns at different turns share no row, as b ≤ n. Where its group g is known,

        score_i = Σ_{t = g, g + n, …} log (1 − nq + nq · exp((a·c_tᵀw_i − (a·‖c_t‖)² ÷ 2) ÷ σ²)),

    and else the log of the mean of e^score over all groups. Where nq = 1 it enters at every turn: then c_t is the sum
    of its columns, whether they share rows or not.

    Args: as of `sampled_gaussian_scores`, and
      bands: b; with 1 the result is that of independent noise.
      groups: n; b if not given.
      turns: (m,) the group of each canary, 0 … n − 1, a fair die whether it is in or out; None where it is not known.
        The claim is accounted for a reader who knows it, so this is the attack that the claim has to stand.

    Raises:
      DataError: not (steps, m) numbers, or other turns than those.
    """
    from scipy.special import logsumexp

    seen = _observations(observed)
    groups = bands if groups is None else groups
    known = None if turns is None else _turns(turns, groups, seen.shape[1])
    steps = seen.shape[0]
    matrix = strategy(strategy_coefficients(bands), steps)  # (steps, steps)
    rate = min(1.0, groups * sample_rate)
    sure = math.isclose(rate, 1.0)
    columns = matrix @ _members(groups, steps).T if sure else matrix
    norms = np.square(columns).sum(0)  # 1, but for rounding, where columns are not added up
    scores = np.empty(seen.shape[1])
    for start in range(0, seen.shape[1], _BLOCK):
        whitened = matrix @ seen[:, start : start + _BLOCK]
        matched = columns.T @ whitened  # (steps or groups, block): c_tᵀ w
        exponents = (amplitude * matched - amplitude**2 * norms[:, None] / 2) / noise_multiplier**2
        by_group = exponents if sure else _members(groups, steps) @ _log_mixture(exponents, rate)
        if known is None:
            scores[start : start + _BLOCK] = logsumexp(by_group, axis=0) - math.log(groups)
        else:
            scores[start : start + _BLOCK] = by_group[known[start : start + _BLOCK], np.arange(by_group.shape[1])]
    return scores


def mechanism_scores(
    observed: npt.ArrayLike,
    plan: PrivacyPlan,
    *,
    amplitude: float = 1.0,
    noise_multiplier: float | None = None,
    turns: npt.ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Score the observations of a run of `plan` by the likelihood ratio of the plan's own mechanism.

    With a cap on a step's units the coins are taken for plain ones, which they are but for a few steps: any score is a
    valid attack, and a better one only a stronger.

    Args: as of `sampled_gaussian_scores`, and
      noise_multiplier: σ that is really there, such as `seen_noise` finds; the plan's if None.
      turns: as of `banded_scores`; of no account for a plan whose units take no turns.

    Raises:
      DataError: not (steps, m) numbers, or of another number of steps than the plan has; other turns than those.
    """
    seen = _observations(observed, plan)
    noise = plan.calibrated_noise_multiplier if noise_multiplier is None else noise_multiplier
    rate = plan.sample_rate
    law, draws = plan.mechanism.noise, plan.mechanism.draw_law
    if draws.groups > 1:
        return banded_scores(
            seen,
            noise_multiplier=noise,
            sample_rate=rate,
            bands=law.bands,
            groups=draws.groups,
            amplitude=amplitude,
            turns=turns,
        )
    return sampled_gaussian_scores(
        seen,
        noise_multiplier=noise,
        sample_rate=rate,
        amplitude=amplitude,
        contributions=canary_contributions(plan),
    )


def seen_noise(observed: npt.ArrayLike, plan: PrivacyPlan) -> float:
    """Estimate σ from the observations: the plan's, unless they say that it is another by a tenth or more.

    By the median of what lies below 0, where canaries that entered hardly ever are. A function of observations alone,
    so scores under it are as valid an attack as any, and where the noise is not the planned one a far stronger one.

    Args: as of `mechanism_scores`.
    """
    seen = _observations(observed, plan)
    law = plan.mechanism.noise
    if not law.independent:
        seen = strategy(strategy_coefficients(law.bands), plan.steps) @ seen
    below = -seen[seen < 0]
    found = float(np.median(below)) / 0.6744897501960817 if len(below) else 0.0
    planned = plan.calibrated_noise_multiplier
    if abs(found / planned - 1) < _AS_PLANNED:
        return planned
    return max(found, planned * 1e-3)


def canary_contributions(plan: PrivacyPlan) -> int:
    """How many units of its person a canary has to be, for it to use all that the plan allows a person."""
    from dp_train.privacy.relations import Unit

    return plan.max_contributions if plan.unit is Unit.USER else 1


def simulate(
    plan: PrivacyPlan,
    included: npt.ArrayLike,
    *,
    seed: int,
    noise_scale: float = 1.0,
    amplitude: float = 1.0,
    turns: npt.ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Draw what Dirac canaries would show of a correct run of `plan`, with no model: (steps, m) sums ÷ clip norm.

    Args:
      included: (m,) bool. seed: of the simulation; public.
      noise_scale: what the noise is multiplied by, to plant a wrong one.
      turns: (m,) the group of each canary, for a plan whose units take turns; drawn if None.

    Raises:
      DataError: other turns than those.
    """
    inside = np.asarray(included, dtype=np.bool_)
    random = np.random.default_rng(seed)
    steps, m, draws = plan.steps, len(inside), plan.mechanism.draw_law
    noise = random.standard_normal((steps, m))
    if draws.groups == 1:
        counts = random.binomial(canary_contributions(plan), plan.sample_rate, (steps, m))
    else:
        groups = random.integers(draws.groups, size=m) if turns is None else _turns(turns, draws.groups, m)
        counts = (groups == (np.arange(steps) % draws.groups)[:, None]) & (random.random((steps, m)) < draws.rate)
        noise = _take_back(noise, plan.mechanism.noise.bands)
    return amplitude * counts * inside + noise_scale * plan.calibrated_noise_multiplier * noise


def loss_difference(before: npt.ArrayLike, after: npt.ArrayLike) -> NDArray[np.float64]:
    """How much further down a loss went than where it started: (n,) before − after, higher for what was trained on.

    Subtracting the public start's loss takes away how hard a text is by itself.

    Raises:
      DataError: shapes differ.

    >>> loss_difference([3.0, 2.0], [1.0, 2.0]).tolist()
    [2.0, 0.0]
    """
    first, last = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != last.shape:
        raise DataError(f"scores: losses of shapes {first.shape} and {last.shape}; expected the same")
    return first - last


def rmia(
    losses: npt.ArrayLike,
    reference_losses: npt.ArrayLike,
    population_losses: npt.ArrayLike,
    population_reference_losses: npt.ArrayLike,
    *,
    gamma: float = 1.0,
    offline: float = 1.0,
) -> NDArray[np.float64]:
    """Robust membership inference: the share of the population that a target beats by its likelihood ratio.

    With LR(x) = p(x | model) ÷ p(x), p(x) = ½ ((1 + a)·mean over reference models of p(x | reference) + 1 − a):

        score(x) = share of z in the population with LR(x) ÷ LR(z) ≥ γ    (Zarifzadeh et al. 2024, arXiv 2312.03262).

    Args:
      losses: (n,) of the targets under the model, negative log-likelihoods. reference_losses: (models, n).
      population_losses: (p,) of people who are surely out. population_reference_losses: (models, p).
      gamma: γ ≥ 1. offline: a in [0, 1]; 1 takes references that saw none of the targets for the population as it is.

    Returns:
      (n,) scores in [0, 1].

    Raises:
      DataError: shapes do not go together.
    """
    target, population = (
        _log_ratios(losses, reference_losses, offline),
        _log_ratios(population_losses, population_reference_losses, offline),
    )
    ranked = np.sort(population)
    beaten = np.searchsorted(ranked, target - math.log(gamma), side="right")
    shares: NDArray[np.float64] = beaten / len(ranked)
    return shares


def _log_ratios(losses: npt.ArrayLike, references: npt.ArrayLike, offline: float) -> NDArray[np.float64]:
    from scipy.special import logsumexp

    own, others = np.asarray(losses, dtype=np.float64), np.asarray(references, dtype=np.float64)
    if own.ndim != 1 or not len(own) or others.ndim != 2 or others.shape[1] != len(own) or not len(others):
        raise DataError(f"rmia: losses of shapes {own.shape} and {others.shape}; expected (n,) and (models, n)")
    outside = logsumexp(-others, axis=0) - math.log(len(others))
    scale = math.log((1 + offline) / 2)
    rest = math.log((1 - offline) / 2) if offline < 1 else -math.inf
    found: NDArray[np.float64] = -own - np.logaddexp(scale + outside, rest)
    return found


def _log_mixture(exponents: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """log(1 − rate + rate · e^x), exact at both ends."""
    absent = math.log1p(-rate) if rate < 1 else -math.inf
    found: NDArray[np.float64] = np.logaddexp(absent, math.log(rate) + exponents)
    return found


def _take_back(noise: NDArray[np.float64], bands: int) -> NDArray[np.float64]:
    """C⁻¹Z by the recurrence that training uses (`engines.correlated_noise`)."""
    coefficients = strategy_coefficients(bands)
    rows: list[NDArray[np.float64]] = []
    for step in range(len(noise)):
        row = noise[step].copy()
        for k in range(1, min(bands, step + 1)):
            row -= coefficients[k] * rows[step - k]
        rows.append(row)
    return np.stack(rows) * column_norms(coefficients, len(noise))[:, None]


def _members(groups: int, steps: int) -> NDArray[np.float64]:
    """(groups, steps) 1 where a step is a turn of the group."""
    turns: NDArray[np.float64] = (np.arange(groups)[:, None] == np.arange(steps) % groups).astype(np.float64)
    return turns


def _turns(turns: npt.ArrayLike, groups: int, canaries: int) -> NDArray[np.int64]:
    found = np.asarray(turns)
    if found.shape != (canaries,) or found.dtype.kind not in "iu" or not ((found >= 0) & (found < groups)).all():
        raise DataError(
            f"scores: turns of shape {found.shape}; expected one of 0 … {groups - 1} for each of {canaries} canaries"
        )
    return found.astype(np.int64)


def _observations(observed: npt.ArrayLike, plan: PrivacyPlan | None = None) -> NDArray[np.float64]:
    seen = np.asarray(observed, dtype=np.float64)
    if plan is not None and seen.ndim == 2 and len(seen) != plan.steps:
        raise DataError(f"scores: observations of {len(seen)} steps; expected the plan's {plan.steps}")
    if seen.ndim != 2 or not np.isfinite(seen).all():
        raise DataError(f"scores: observations of shape {seen.shape}; expected finite numbers, (steps, canaries)")
    return seen


__all__ = [
    "banded_scores",
    "canary_contributions",
    "loss_difference",
    "mechanism_scores",
    "rmia",
    "sampled_gaussian_scores",
    "seen_noise",
    "simulate",
]
