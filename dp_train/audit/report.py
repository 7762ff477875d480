"""What an audit of a run says: public values apart from private ones, and whether they refute the claim.

Two confidences. A bound is *shown* at 95 %. A claim is *refuted* by a bound that holds at 99.9 %, or by a conformance
audit whose tests call a correct trainer wrong with probability 1e-4 together: a refuted claim is withheld for good, and
one audit in twenty must not do that by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from dp_train.audit.bounds import LowerBound, tightest
from dp_train.audit.checks import Conformance
from dp_train.audit.one_run import OneRun
from dp_train.audit.roc import roc_curve
from dp_train.privacy.plan import PrivacyPlan
from dp_train.words import Word

FORMAT = 1
SHOWN, REFUTING = 0.95, 0.999
"""Confidence of the bounds that are shown, and of those that refute."""

CONSISTENT, REFUTED, INCOMPLETE = "consistent with the claim", "refutes the claim", "incomplete"
UNCLAIMED = "finds nothing, and there is no claim to compare with"
_POINTS = 64


class Bounds(Protocol):
    """Scores and coins → bounds that hold at a confidence together."""

    def __call__(
        self, scores: npt.ArrayLike, included: npt.ArrayLike, plan: PrivacyPlan, *, confidence: float = ...
    ) -> tuple[LowerBound, ...]: ...


class Level(Word):
    """How much an audit does."""

    CONFORMANCE = "conformance"
    """Does the trainer do what its plan says? Nothing of the trained model is looked at."""
    DEFAULT = "default"
    """And the white-box bound of a shadow run."""
    FULL = "full"
    """And a black-box bound, membership inference and replay on the model itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A lower bound on ε by a shadow run on published text, and the ROC of its canaries. Public.

    Attributes:
      name: of the attack. canaries: how many, about half of them in.
      reads: what the attack reads of the run, and knows.
      shown, refuting: the tightest bound at each of the two confidences; `bounds`: those that are shown, by method.
      departed: why the shadow run's own claim is withheld; empty if it went as planned.
      curve: (false positives, true positives), rising.
    """

    name: str
    canaries: int
    reads: str
    bounds: tuple[LowerBound, ...]
    shown: LowerBound
    refuting: LowerBound
    departed: tuple[str, ...]
    curve: Sequence[tuple[float, float]]
    seconds: float

    @classmethod
    def of(cls, name: str, run: OneRun, plan: PrivacyPlan, bounds: Bounds, *, reads: str) -> Attack:
        """Report a shadow run.

        Args:
          reads: as of the class.
          bounds: `white_box_bounds` or `black_box_bounds`, which the run's own bounds are by.
        """
        curve = roc_curve(run.scores, run.included)
        return cls(
            name=name,
            canaries=len(run.scores),
            reads=reads,
            bounds=run.bounds,
            shown=run.bound,
            refuting=tightest(bounds(run.scores, run.included, plan, confidence=REFUTING)),
            departed=run.result.epsilon.withheld,
            curve=thinned(curve.fpr, curve.tpr),
            seconds=run.seconds,
        )

    def findings(self, claimed: float) -> tuple[str, ...]:
        """What of it refutes an ε that was claimed at the same δ."""
        found = tuple(f"{self.name}: the shadow run departs from its plan: {reason}" for reason in self.departed)
        if self.refuting.epsilon > claimed:
            bound = f"ε ≥ {self.refuting.epsilon:.3g} at {REFUTING:.1%} confidence, where {claimed:.3g} is claimed"
            found = (*found, f"{self.name}: {bound}")
        return found

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "canaries": self.canaries,
            "reads": self.reads,
            "company": "published text alone",
            "bound": bound_values(self.shown),
            "by_method": [bound_values(bound) for bound in self.bounds],
            "refuting_bound": bound_values(self.refuting),
            "departed": list(self.departed),
            "roc": [[round(x, 6), round(y, 6)] for x, y in self.curve],
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What an audit found.

    Attributes:
      run: its label. level: how much was done. epsilon, delta, unit: what is claimed.
      planned: ε of the plan, which shadow runs are of; less than `epsilon` where the model was trained before.
      conformance, attacks: public. private: of membership and replay, by name; no ε covers it.
      unfinished: parts beyond conformance that could not be run, and why; says nothing of the claim.
      released: whether `private` was asked to be shown outside the run's private folder.
      seconds: of each part.
    """

    run: str
    level: Level
    epsilon: float | None
    planned: float
    delta: float
    unit: str
    conformance: Conformance
    attacks: tuple[Attack, ...] = ()
    unfinished: tuple[str, ...] = ()
    private: Mapping[str, Any] = field(default_factory=dict, repr=False)
    released: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[str, ...]:
        """What refutes the claim; empty if everything is consistent with it."""
        by_attack = (finding for attack in self.attacks for finding in attack.findings(self.planned))
        return (*self.conformance.findings, *by_attack)

    @property
    def errors(self) -> tuple[str, ...]:
        """Parts that could not be run, and why: without a finding the audit is then incomplete."""
        return (*self.conformance.errors, *self.unfinished)

    @property
    def verdict(self) -> str:
        """What the audit says of the claim; it proves nothing."""
        if self.findings:
            return REFUTED
        if self.errors:
            return INCOMPLETE
        return CONSISTENT if self.epsilon is not None else UNCLAIMED

    def values(self) -> dict[str, Any]:
        """`audit.json`: public values, and private ones where that was asked for."""
        return {
            "format": FORMAT,
            "run": self.run,
            "level": self.level.value,
            "claim": {"epsilon": self.epsilon, "delta": self.delta, "unit": self.unit, "planned": self.planned},
            "verdict": self.verdict,
            "findings": list(self.findings),
            "errors": list(self.errors),
            "conformance": self.conformance.values(),
            "attacks": [attack.values() for attack in self.attacks],
            "private": dict(self.private) if self.released else sorted(self.private),
            "released_private": self.released and bool(self.private),
            "seconds": {name: round(seconds, 2) for name, seconds in self.seconds.items()},
        }


def bound_values(bound: LowerBound) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "method": bound.method,
        "epsilon": round(bound.epsilon, 4),
        "delta": bound.delta,
        "confidence": round(bound.confidence, 6),
        "guesses": bound.guesses,
        "correct": bound.correct,
    }


def thinned(fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> list[tuple[float, float]]:
    """At most 64 points of a ROC, closer at few false positives, with both ends."""
    positive = fpr[fpr > 0]
    least = float(positive.min()) if positive.size else 1.0
    wanted = np.concatenate([[0.0], np.geomspace(least, 1.0, _POINTS - 1)])
    places = np.unique(np.searchsorted(fpr, wanted, side="right") - 1)
    return [(float(fpr[place]), float(tpr[place])) for place in places]


__all__ = [
    "CONSISTENT",
    "INCOMPLETE",
    "REFUTED",
    "REFUTING",
    "SHOWN",
    "UNCLAIMED",
    "Attack",
    "AuditReport",
    "Level",
    "bound_values",
    "thinned",
]
