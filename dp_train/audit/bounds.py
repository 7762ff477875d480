"""Lower bounds on ε from what an attack guessed right; each is a test of hypotheses turned around.

| bound | from | of what claim | what it assumes of the scores |
|---|---|---|---|
| `steinke` | one run, m canaries, each in by a fair coin | (ε, δ) | nothing |
| `f_dp` | the same | the whole curve of a mechanism, noise scaled | nothing; ε is read off the refuted curve |
| `two_run` | independent runs, or independent people | (ε, δ) | independent of each other |

Multiple testing. A guess is a canary whose score is far from `centre`; how many are guessed decides how tight a bound
is, and may not be chosen by who turned out to be right. So one or a few `guesses` are fixed before the coins are looked
at (`guesses.planned_guesses` derives them from the plan), or all of the grid m, m/2, m/4, … ≥ 8 are tried. Each count
that is tried gets an equal share of 1 − confidence (Bonferroni), so the largest bound holds at the stated confidence.
`two_run` chooses its threshold on one half of the scores and counts on the other. Where several bounds are shown,
`tightest` adds up what each may err.

A bound speaks of the run that was attacked. It is "consistent with" a claim, or "refutes" it; it proves nothing.

References: Steinke, Nasr & Jagielski 2023, "Privacy auditing with one (1) training run" (arXiv 2305.08846), theorem 5.2
and appendix D; Mahloujifar, Melis & Chaudhuri 2024, "Auditing f-differential privacy in one run" (arXiv 2410.22235),
theorem 9 and algorithm 3; Clopper & Pearson 1934; Jagielski, Ullman & Oprea 2020 (arXiv 2006.07709).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from dp_train.audit.roc import check_scores, clopper_pearson
from dp_train.errors import ConfigError
from dp_train.privacy.trade_off import Claim, TradeOff

Verdict = Literal["consistent with", "refutes"]

_LEAST_GUESSES = 8
_MOST_EPSILON = 64.0
_RESOLUTION = 1e-4
_OCTAVE = 48
"""Members of a family in each doubling of the noise: a bound is rounded down by 3 % at most."""

_OCTAVES = 6


@dataclass(frozen=True)
class LowerBound:
    """What an attack shows of ε: with probability at least `confidence`, a run whose ε is smaller is not called this.

    Attributes:
      method: "steinke", "f-dp" or "two-run".
      epsilon: the bound, ≥ 0, at `delta`.
      guesses, correct: how many membership guesses it rests on, and how many of them were right.
    """

    method: str
    epsilon: float
    delta: float
    confidence: float
    guesses: int
    correct: int


def steinke(
    scores: npt.ArrayLike,
    included: npt.ArrayLike,
    *,
    delta: float,
    confidence: float = 0.95,
    guesses: int | Sequence[int] | None = None,
    centre: float | None = None,
) -> LowerBound:
    """Bound ε from one run, for any (ε, δ) mechanism (Steinke et al. 2023, theorem 5.2).

    Of r guesses at m fair coins, at least v are right with probability at most

        β(v) + 2mδ · max over i of (β(v − i) − β(v)) ÷ i,    β(v) = P[Binomial(r, e^ε ÷ (1 + e^ε)) ≥ v].

    The bound is the largest ε at which this is at most 1 − confidence.

    Args:
      scores: (m,) higher where a canary looks included. included: (m,) bool, by independent fair coins.
      guesses: r, or several of which each is tried, chosen without looking at `included`; None tries a grid. What is
        tried is paid for, see the head of the file.
      centre: the score between "in" and "out": 0 of a log-likelihood ratio; the median if None.

    Raises:
      DataError: shapes differ, or a score is not a number. ConfigError: an argument is out of range.

    >>> truth = [True, False] * 200
    >>> steinke([1.0 if one else -1.0 for one in truth], truth, delta=1e-6).epsilon > 4
    True
    """
    _check(delta, confidence)
    values, truth = check_scores(scores, included)
    m = len(values)

    def largest(r: int, v: int, level: float) -> float:
        return steinke_epsilon(m, r, v, delta, level)

    return _over_guesses("steinke", values, truth, delta, confidence, guesses, centre, largest)


def f_dp(
    scores: npt.ArrayLike,
    included: npt.ArrayLike,
    *,
    claim: Claim,
    delta: float | None = None,
    confidence: float = 0.95,
    guesses: int | Sequence[int] | None = None,
    centre: float | None = None,
) -> LowerBound:
    """Bound ε from one run by a claimed mechanism's own trade-off curve (Mahloujifar et al. 2024, theorem 9).

    Among the claimed mechanism with its noise scaled by 2^(k/48), the least noisy that the guesses refute is looked
    for; the bound is that one's ε at the claim's δ. Tighter than `steinke`, which has to allow the worst mechanism of
    an (ε, δ): so it says what ε a mechanism *of this family* has. Both directions of a sampled mechanism are counted
    as what they are (`privacy.trade_off`).

    Args: as of `steinke`, and
      claim: `Claim.of(plan)`, or the event of another trainer by noise scale.
      delta: the claim's; given, it has to be the same.

    Raises:
      DataError, ConfigError: as `steinke`. PlanError: the claimed event has no loss distribution.
    """
    if delta is not None and delta != claim.delta:
        raise ConfigError(f"audit: delta={delta:g} and the claim is at δ={claim.delta:g}; expected the same")
    _check(claim.delta, confidence)
    values, truth = check_scores(scores, included)
    m = len(values)

    def largest(r: int, v: int, level: float) -> float:
        return f_dp_epsilon(claim, m, r, v, level)

    return _over_guesses("f-dp", values, truth, claim.delta, confidence, guesses, centre, largest)


def two_run(
    scores: npt.ArrayLike,
    included: npt.ArrayLike,
    *,
    delta: float,
    confidence: float = 0.95,
    threshold: float | None = None,
) -> LowerBound:
    """Bound ε by the rates at which independent scores tell "in" from "out" (Jagielski et al. 2020).

    For every (ε, δ) mechanism TPR ≤ e^ε·FPR + δ and TNR ≤ e^ε·FNR + δ, so

        ε ≥ log max((TPR − δ) ÷ FPR, (TNR − δ) ÷ FNR),

    with Clopper–Pearson bounds for the rates.

    Scores of canaries in one and the same run are not independent: use `steinke` or `f_dp` for them.

    Args:
      scores: (n,) of independent runs with and without a target. included: (n,) bool.
      threshold: at or above it "in" is guessed, chosen without looking at `included`. None chooses it on the scores of
        even index and counts on those of odd index, so the order may not depend on the scores.

    Raises:
      DataError: as `steinke`, or one of the sides is empty. ConfigError: an argument is out of range.
    """
    _check(delta, confidence)
    values, truth = check_scores(scores, included)
    if threshold is None:
        threshold = _best_threshold(values[::2], truth[::2], delta)
        values, truth = values[1::2], truth[1::2]
    guessed = values >= threshold
    inside, outside = int(truth.sum()), int((~truth).sum())
    hits, alarms = int((guessed & truth).sum()), int((guessed & ~truth).sum())
    # Two ends are used, the lower of TPR and the upper of FPR, and each fails with probability (1 − confidence) ÷ 2.
    tpr = clopper_pearson(hits, inside, confidence=confidence)
    fpr = clopper_pearson(alarms, outside, confidence=confidence)
    epsilon = _log_ratio(tpr.low - delta, fpr.high), _log_ratio(1 - fpr.high - delta, 1 - tpr.low)
    correct = hits + outside - alarms
    return LowerBound("two-run", max(0.0, *epsilon), delta, confidence, inside + outside, correct)


def tightest(bounds: Sequence[LowerBound]) -> LowerBound:
    """Return the largest of several bounds on one run, at the confidence that all of them hold together.

    Each may err with probability 1 − confidence, so that one of them does with their sum at most.

    Raises:
      ConfigError: there is none, or they are at different δ.
    """
    if not bounds or len({bound.delta for bound in bounds}) > 1:
        raise ConfigError(f"audit: {len(bounds)} bounds; expected one or more, all at one δ")
    together = 1 - sum(1 - bound.confidence for bound in bounds)
    return replace(max(bounds, key=lambda bound: bound.epsilon), confidence=max(0.0, together))


def verdict(bound: LowerBound, claimed: float) -> Verdict:
    """Compare a bound with the ε that was claimed at the same δ; infinity, the absence of a claim, is never refuted.

    Raises:
      ConfigError: what was claimed is not a number, with which everything would be consistent.
    """
    if math.isnan(claimed):
        raise ConfigError("audit: the claimed ε is not a number; expected one, or infinity where nothing is claimed")
    return "refutes" if bound.epsilon > claimed else "consistent with"


def guess(
    scores: NDArray[np.float64], count: int, *, centre: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Guess the membership of the `count` canaries whose scores are furthest from `centre`.

    Equal distances are ordered by a fixed shuffle, never by index: whoever hands in members first gains nothing.

    Returns:
      (count,) indices and (count,) bool guesses. Both depend on scores alone.
    """
    middle = float(np.median(scores)) if centre is None else centre
    shuffled = np.random.default_rng(0).permutation(len(scores))
    distance = np.abs(scores[shuffled] - middle)
    chosen = shuffled[np.argsort(-distance, kind="stable")[:count]]
    return chosen, scores[chosen] > middle


def refutes_curve(curve: TradeOff, m: int, r: int, v: int, level: float) -> bool:
    """Return whether at least v of r right guesses at m coins have probability below `level` under a trade-off.

    Were it `level` or more, then from the chances of v … r right guesses the least chances of v − 1, v − 2, … would
    follow, one by one, and all of them together could not exceed 1 (Mahloujifar et al. 2024, algorithm 3). In the loop
    `right` = Σ (j/m)·p_j and `wrong` = Σ ((r − j)/m)·p_j over j ≥ i, and the trade-off allows no `wrong` at j ≥ i − 1
    below `curve.least(right at j ≥ i)`.
    """
    if v <= 0 or r <= 0:
        return False
    right, wrong = level * v / m, level * (r - v) / m
    for i in range(v - 1, -1, -1):
        least = max(wrong, curve.least(right))
        right += i / (r - i) * (least - wrong)
        wrong = least
        if right + wrong > r / m:
            return True
    return False


def steinke_epsilon(m: int, r: int, v: int, delta: float, level: float) -> float:
    """The largest ε at which v of r right guesses at m coins have probability at most `level`; see `steinke`."""
    return _largest_refuted(lambda epsilon: _steinke_p(m, r, v, epsilon, delta) <= level)


def f_dp_epsilon(claim: Claim, m: int, r: int, v: int, level: float) -> float:
    """ε of the least noisy member of the claim's family that v of r right guesses at m coins refute; see `f_dp`.

    By the accountant and at the resolution by which claims are priced: the coarse curve that is refuted has a larger ε.
    """
    scale = least_noise(claim, m, r, v, level)
    return 0.0 if scale is None else claim.epsilon(scale)


def least_noise(claim: Claim, m: int, r: int, v: int, level: float) -> float | None:
    """The noise scale of that member; None if no member is refuted."""
    return _least_noisy(claim, lambda curve: refutes_curve(curve, m, r, v, level))


def _steinke_p(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    from scipy.stats import binom

    q = 1 / (1 + math.exp(-epsilon))
    beta = float(binom.sf(v - 1, r, q))
    if delta == 0 or v == 0:
        return min(1.0, beta)
    below = binom.pmf(np.arange(v - 1, -1, -1), r, q).cumsum()  # β(v − i) − β(v) for i = 1 … v
    alpha = float((below / np.arange(1, v + 1)).max())
    return min(1.0, beta + 2 * m * delta * alpha)


Largest = Callable[[int, int, float], float]
"""(guesses, correct, level) → the largest ε that they refute at that level."""


def _over_guesses(
    method: str,
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    delta: float,
    confidence: float,
    guesses: int | Sequence[int] | None,
    centre: float | None,
    largest: Largest,
) -> LowerBound:
    if guesses is None:
        counts = guess_counts(len(scores))
    else:
        counts = (guesses,) if isinstance(guesses, int) else tuple(dict.fromkeys(guesses))
    if not counts or not all(1 <= count <= len(scores) for count in counts):
        raise ConfigError(f"audit: guesses={guesses}; expected 1 to the number of canaries, {len(scores)}")
    level = (1 - confidence) / len(counts)
    chosen, guessed = guess(scores, max(counts), centre=centre)
    right = (guessed == truth[chosen]).cumsum()
    found = []
    for count in counts:
        correct = int(right[count - 1])
        epsilon = largest(count, correct, level) if 2 * correct > count else 0.0
        found.append(LowerBound(method, epsilon, delta, confidence, count, correct))
    return max(found, key=lambda bound: bound.epsilon)


def guess_counts(m: int) -> tuple[int, ...]:
    """The grid of guesses that is tried where none was fixed: m, m/2, m/4, … down to 8."""
    counts = [m]
    while counts[-1] // 2 >= _LEAST_GUESSES:
        counts.append(counts[-1] // 2)
    return tuple(counts)


def _largest_refuted(refuted: Callable[[float], bool]) -> float:
    low, high = 0.0, _MOST_EPSILON
    if not refuted(low):
        return 0.0
    while high - low > _RESOLUTION:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _least_noisy(claim: Claim, refuted: Callable[[TradeOff], bool]) -> float | None:
    """The scale 2^(−k/48) of the least noisy refuted member of the claim's family; None if none is refuted."""

    def scale(k: int) -> float:
        return float(2.0 ** (-k / _OCTAVE))

    def at(k: int) -> TradeOff:
        return claim.curve(scale(k))

    low, high = -_OCTAVES * _OCTAVE, _OCTAVES * _OCTAVE
    step = _OCTAVE
    if refuted(at(0)):
        low = 0
        while low + step < high and refuted(at(low + step)):
            low += step
        high = min(high, low + step)
    else:
        high = 0
        while high - step > low and not refuted(at(high - step)):
            high -= step
        low = max(low, high - step)
        if not refuted(at(low)):
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refuted(at(middle)) else (low, middle)
    return scale(low)


def _best_threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_], delta: float) -> float:
    """The threshold that promises most on the half that is for choosing."""
    candidates = np.unique(np.quantile(scores, np.linspace(0.01, 0.99, 99)))
    inside, outside = max(1, int(truth.sum())), max(1, int((~truth).sum()))

    def promise(threshold: float) -> float:
        guessed = scores >= threshold
        tpr = ((guessed & truth).sum() - 1) / inside
        fpr = ((guessed & ~truth).sum() + 1) / outside
        return max(_log_ratio(tpr - delta, fpr), _log_ratio(1 - fpr - delta, 1 - tpr))

    return float(max(candidates, key=promise))


def _log_ratio(above: float, below: float) -> float:
    if above <= 0:
        return 0.0
    return math.log(above / below) if below > 0 else math.inf


def _check(delta: float, confidence: float) -> None:
    if not 0 <= delta < 1:
        raise ConfigError(f"audit: delta={delta!r}; expected a probability below 1")
    if not 0 < confidence < 1:
        raise ConfigError(f"audit: confidence={confidence!r}; expected a probability in (0, 1), such as 0.95")


__all__ = [
    "LowerBound",
    "Verdict",
    "f_dp",
    "f_dp_epsilon",
    "guess",
    "guess_counts",
    "least_noise",
    "refutes_curve",
    "steinke",
    "steinke_epsilon",
    "tightest",
    "two_run",
    "verdict",
]
