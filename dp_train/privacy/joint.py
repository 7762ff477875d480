"""The ε of all that was looked at: one number over several runs, or none, with the reason (docs/studies.md).

Whoever chooses among runs has looked at all of them, also at those that failed, were withheld, or had no privacy. So
sweeps, trade-offs, phases of one model and a ledger ask the same function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dp_train.privacy.composition import compose
from dp_train.privacy.events import event_from_json, event_json, grouped
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.relations import NeighboringRelation, Unit, strictest
from dp_train.privacy.rounding import rounded_up

_SLACK = 1e-3
"""How far a claim may lie above the composed ε, relative: two discretisations of the same loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one run on the people in question spent, or why that is unknown.

    Attributes:
      event: JSON of the `DpEvent` of the steps that are charged; None where there is none.
      why_none: why there is no event; "" where there is one.
      relation, delta, unit: of its guarantee.
      earlier: JSON of the events of the runs on the same people that trained its model before.
      claimed: ε that was said of it; the joint ε explains at least this much, or there is none.
      coins: names the stream of its sampling coins, where a user chose the seed; None for a fresh seed of its own.
    """

    event: str | None
    why_none: str = ""
    relation: NeighboringRelation = NeighboringRelation.ADD_OR_REMOVE_ONE
    delta: float = 1e-5
    unit: Unit = Unit.USER
    earlier: tuple[str, ...] = ()
    claimed: float | None = None
    coins: str | None = None

    @classmethod
    def of(
        cls,
        plan: PrivacyPlan,
        steps: int | None,
        *,
        withheld: bool = False,
        earlier: Iterable[str] = (),
        claimed: float | None = None,
        coins: str | None = None,
    ) -> Spent:
        """What a run of a plan spent.

        Args:
          steps: that are charged; None where it failed at an unknown step.
          withheld: whether its own ε is.
        """
        event, why = None, ""
        if steps is not None and steps == 0:
            event = event_json(plan.event(0))
        elif not plan.private:
            why = "had no privacy"
        elif withheld:
            why = "has its ε withheld"
        elif steps is None:
            why = "failed at a step that nobody knows"
        else:
            event = event_json(plan.event(steps))
        return cls(
            event=event,
            why_none=why,
            relation=plan.neighboring_relation,
            delta=plan.delta,
            unit=plan.unit,
            earlier=tuple(earlier),
            claimed=claimed,
            coins=coins,
        )

    @property
    def spends(self) -> bool:
        """Whether it took a step, or may have."""
        return self.event is None or bool(self.earlier) or bool(grouped([event_from_json(self.event)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class JointClaim:
    """ε of several runs together, at the least of their δ.

    Attributes:
      epsilon: None where there is none; 0 where nothing was spent.
      why_none: the reasons; empty where there is an ε.
      runs: how many spent something, or may have.
    """

    epsilon: float | None
    delta: float
    unit: Unit
    runs: int
    why_none: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert (self.epsilon is None) == bool(self.why_none)

    def describe(self) -> str:
        """One sentence, also where there is no ε."""
        if self.epsilon is None:
            return f"these {self.runs} runs together: no ε ({'; '.join(self.why_none)})"
        per = "" if self.unit is Unit.USER else " per example"
        return (
            f"these {self.runs} runs together: ε={rounded_up(self.epsilon)}{per} at δ={self.delta:g} (composed, as "
            "they were declared), which is what stands behind a model that is chosen among them; what other runs on "
            "these people add, dp-train ledger show says"
        )


def joint_claim(looked_at: Sequence[Spent], *, delta: float | None = None) -> JointClaim:
    """Compose all that was looked at, as if it had been declared before the first run.

    | among the runs that spent something, or may have | the joint ε |
    |---|---|
    | none | 0 |
    | each has an event, all of one unit | all of them composed, and what trained their models before |
    | one has none: no privacy, withheld, failed nobody knows where | none |
    | some per person, some per example | none |
    | several with the coins of one chosen seed | none: composition takes coins for independent |
    | one claims more than all of them cost | none: something that it paid for is missing |

    Guarantee: where there is an ε, it is at least every ε that was claimed of one of them. A run that trained the
    models of several of them before is counted for each, so the ε is never too small.

    Args:
      delta: at which; the least of theirs, if not given.
    """
    spent = [one for one in looked_at if one.spends]
    units = {one.unit for one in spent if one.event is not None}
    at = min((one.delta for one in spent if one.event is not None), default=1e-5) if delta is None else delta
    reasons = Counter(one.why_none for one in spent if one.event is None)
    why = [f"{count} of them {reason}" for reason, count in sorted(reasons.items())]
    if len(units) > 1:
        why.append("some count per person and some per example")
    if max(Counter(one.coins for one in spent if one.coins is not None).values(), default=0) > 1:
        why.append("several draw the coins of one chosen seed, which are not independent")
    unit = units.pop() if len(units) == 1 else Unit.USER
    epsilon: float | None = None
    if not why:
        events = [event_from_json(text) for one in spent for text in (one.event, *one.earlier) if text is not None]
        epsilon = compose(events, strictest(one.relation for one in spent), at).epsilon
        most = max((one.claimed for one in spent if one.claimed is not None), default=0.0)
        if most > epsilon * (1 + _SLACK):
            epsilon, why = None, [f"one of them claims ε={rounded_up(most)}, more than all of their events cost"]
        else:
            epsilon = max(epsilon, most)
    return JointClaim(epsilon=epsilon, delta=at, unit=unit, runs=len(spent), why_none=tuple(why))


def as_one_event(event: Any, runs: int) -> Any:
    """The event of `runs` equal runs that share their coins: what a person adds is seen `runs` times, or not at all.

    Equal Poisson-sampled Gaussians that are drawn together are one, with noise √runs smaller: far dearer than the
    composition of independent runs.

    Raises:
      PlanError: the event is none of equal Poisson-sampled Gaussian steps.
    """
    from dp_train.errors import PlanError
    from dp_train.privacy.events import sampled_gaussian
    from dp_train.privacy.mechanisms.poisson import Poisson

    steps = sampled_gaussian(event)
    if steps is None or runs < 1:
        raise PlanError(
            "joint: expected Poisson-sampled Gaussian steps and at least one run, for no other event is known"
        )
    noise, rate, count = steps
    return Poisson(sample_rate=rate, noise_multiplier=noise / runs**0.5).event(count)


__all__ = ["JointClaim", "Spent", "as_one_event", "joint_claim"]
