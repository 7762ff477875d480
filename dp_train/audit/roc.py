"""How well scores tell members from others: the ROC curve, its area, and rates with exact intervals.

Area by Mann & Whitney 1947, ties counted half; the low-FPR end is what a membership attack is judged by (Carlini et al.
2022, arXiv 2112.03570). Intervals of rates by Clopper & Pearson 1934; of the area by a bootstrap over people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from dp_train.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, with the interval that holds it at `confidence`."""

    value: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """Rates at every threshold, from "nobody" to "everybody".

    Attributes:
      fpr, tpr: (thresholds,) rising from 0 to 1. thresholds: (thresholds,) falling from ∞; at or above one, a score is
        called a member's.
      members, others: how many there are.
    """

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    members: int
    others: int

    @property
    def area(self) -> float:
        """The chance that a member's score is above another's, ties counted half."""
        return float(np.trapezoid(self.tpr, self.fpr))

    def tpr_at(self, fpr: float, *, confidence: float = 0.95) -> Interval:
        """TPR at the lowest threshold whose FPR is at most `fpr`; with fewer than 1/fpr others that is FPR 0."""
        if not 0 <= fpr <= 1:
            raise ConfigError(f"roc: fpr={fpr!r}; expected a rate in [0, 1]")
        rate = float(self.tpr[int(np.searchsorted(self.fpr, fpr, side="right")) - 1])
        return clopper_pearson(round(rate * self.members), self.members, confidence=confidence)


def roc_curve(scores: npt.ArrayLike, included: npt.ArrayLike) -> Roc:
    """Make the ROC curve of scores, higher for members.

    Args:
      scores: (n,). included: (n,) bool, whether each is a member's.

    Raises:
      DataError: shapes differ, a score is not a number, or there are no members or nobody else.

    >>> roc_curve([3.0, 2.0, 1.0], [True, True, False]).area
    1.0
    """
    values, truth = check_scores(scores, included)
    members, others = int(truth.sum()), int((~truth).sum())
    if not members or not others:
        raise DataError(f"roc: {members} members and {others} others; expected at least one of each")
    falling = np.argsort(-values, kind="stable")
    values, truth = values[falling], truth[falling]
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # equal scores come in together
    hits, alarms = truth.cumsum()[ends], (~truth).cumsum()[ends]
    return Roc(
        fpr=np.concatenate([[0.0], alarms / others]),
        tpr=np.concatenate([[0.0], hits / members]),
        thresholds=np.concatenate([[np.inf], values[ends]]),
        members=members,
        others=others,
    )


def area_interval(
    scores: npt.ArrayLike,
    included: npt.ArrayLike,
    *,
    people: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Area under the ROC with a bootstrap interval over people, members and others drawn apart.

    Args:
      people: (n,) whose score each is, where a person has several; each score is a person's own if None.
      draws: bootstrap samples. seed: of their choice.

    Raises:
      DataError: as `roc_curve`, or someone is a member and is not.
    """
    _check_confidence(confidence)
    values, truth = check_scores(scores, included)
    whose = np.arange(len(values)) if people is None else np.unique(np.asarray(people), return_inverse=True)[1]
    if whose.shape != values.shape:
        raise DataError(f"roc: people has shape {whose.shape}; expected one for each score, {values.shape}")
    inside, outside = np.unique(whose[truth]), np.unique(whose[~truth])
    if np.intersect1d(inside, outside).size:
        raise DataError("roc: a person is both a member and not; expected one or the other for all of their scores")
    value = roc_curve(values, truth).area
    rows: dict[int, NDArray[np.int64]] = {int(one): np.flatnonzero(whose == one) for one in np.unique(whose)}
    random = np.random.default_rng(seed)
    areas = []
    for _ in range(draws):
        chosen = np.concatenate([random.choice(side, len(side)) for side in (inside, outside)])
        indices = chosen if people is None else np.concatenate([rows[int(one)] for one in chosen])
        areas.append(_area(values[indices], truth[indices]))
    low, high = np.quantile(areas, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=value, low=float(low), high=float(high), confidence=confidence)


def clopper_pearson(hits: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Exact interval of a rate from independent trials; [0, 1] where there were none.

    >>> round(clopper_pearson(0, 10).high, 3)
    0.308
    """
    from scipy.stats import beta

    _check_confidence(confidence)
    if not 0 <= hits <= trials:
        raise ConfigError(f"interval: {hits} of {trials}; expected 0 to the number of trials")
    if trials == 0:
        return Interval(value=float("nan"), low=0.0, high=1.0, confidence=confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.isf(tail, hits + 1, trials - hits))
    return Interval(value=hits / trials, low=low, high=high, confidence=confidence)


def check_scores(scores: npt.ArrayLike, included: npt.ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return both as arrays of one length, or say what is wrong with them.

    Raises:
      DataError: shapes differ, nothing is there, or a score is not a number. Infinite scores are allowed.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(included)
    if values.ndim != 1 or values.shape != truth.shape or not len(values):
        raise DataError(f"scores: shapes {values.shape} and {truth.shape}; expected two of one length, (n,), n > 0")
    if np.isnan(values).any():
        raise DataError("scores: one is not a number; expected a finite or infinite score for each canary or person")
    if not np.isin(truth, (0, 1)).all():
        raise DataError("scores: included holds something else than true and false; expected one bool for each score")
    return values, truth.astype(np.bool_)


def _area(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    from scipy.stats import rankdata

    members = int(truth.sum())
    ranks = rankdata(scores)[truth].sum()
    return float((ranks - members * (members + 1) / 2) / (members * (len(truth) - members)))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ConfigError(f"interval: confidence={confidence!r}; expected a probability in (0, 1), such as 0.95")


__all__ = ["Interval", "Roc", "area_interval", "check_scores", "clopper_pearson", "roc_curve"]
