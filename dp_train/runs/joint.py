"""What several runs spend of one person together: over all that was looked at, or none, with the reason.

A trial without a bound (no privacy, ε withheld) bounds nothing together with others, and numbers per example and per
person are never put into one. A trial that failed is charged with the steps that it may have shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dp_train.privacy.composition import compose
from dp_train.privacy.plan import NeighboringRelation, PrivacyPlan, Unit
from dp_train.privacy.rounding import rounded_up


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpent:
    """What one trial spent.

    Attributes:
      plan: of the trial. steps: that are charged; 0 where it never drew noise.
      withheld: whether its own ε is. fixed_seed: whether its coins come from a seed that someone chose.
    """

    plan: PrivacyPlan
    steps: int
    withheld: bool = False
    fixed_seed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JointClaim:
    """ε of several runs together, at the least of their δ.

    Attributes:
      epsilon: None where there is none. why_none: the reasons; empty where there is one, and where nothing was spent.
      runs: how many spent something. unit: of ε. delta: at which it holds.
    """

    epsilon: float | None
    delta: float
    unit: Unit
    runs: int
    why_none: tuple[str, ...] = ()

    def describe(self) -> str:
        """One sentence, also where there is no ε."""
        if self.epsilon is None:
            return f"these {self.runs} runs together: no ε ({'; '.join(self.why_none)})"
        per = "" if self.unit is Unit.USER else " per example"
        return (
            f"these {self.runs} runs together: ε={rounded_up(self.epsilon)}{per} at δ={self.delta:g} (composed, as "
            "they were declared), which is what stands behind a model that is chosen among them"
        )


def joint_claim(trials: Sequence[TrialSpent]) -> JointClaim:
    """Compose what trials spent, as if all had been declared before the first; private people's trials alone.

    | among the trials that drew noise or read people | the joint ε |
    |---|---|
    | each has a bound, in one unit | all of them composed, failed ones with the steps that are charged |
    | one without privacy, or withheld | none |
    | per person and per example | none |
    | several under a fixed seed | none: they share their coins, and composition takes coins for independent |
    """
    spent = [trial for trial in trials if trial.steps > 0]
    units = {trial.plan.unit for trial in spent if trial.plan.private}
    why: list[str] = []
    open_ones = sum(not trial.plan.private for trial in spent)
    if open_ones:
        why.append(f"{open_ones} without privacy on the same people")
    withheld = sum(trial.withheld for trial in spent)
    if withheld:
        why.append(f"{withheld} whose ε is withheld")
    if len(units) > 1:
        why.append("some count per person and some per example")
    if sum(trial.fixed_seed and trial.plan.private for trial in spent) > 1:
        why.append("several under a fixed seed, which share their coins")
    delta = min((trial.plan.delta for trial in spent if trial.plan.private), default=1e-5)
    unit = units.pop() if len(units) == 1 else Unit.USER
    if why or not spent:
        return JointClaim(epsilon=None, delta=delta, unit=unit, runs=len(spent), why_none=tuple(why))
    relation = NeighboringRelation.ADD_OR_REMOVE_ONE
    if any(trial.plan.neighboring_relation is NeighboringRelation.REPLACE_SPECIAL for trial in spent):
        relation = NeighboringRelation.REPLACE_SPECIAL
    price = compose([trial.plan.event(trial.steps) for trial in spent], relation, delta)
    return JointClaim(epsilon=price.epsilon, delta=delta, unit=unit, runs=len(spent))


__all__ = ["JointClaim", "TrialSpent", "joint_claim"]
