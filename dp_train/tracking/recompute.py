"""The figures of a card from what they follow from: when it is written, and when a user checks it.

Both ways are the same functions, so that a card that verifies says what the ledger says, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dp_train.privacy.composition import compose, event_from_json
from dp_train.privacy.joint import JointClaim, joint_claim
from dp_train.privacy.ledger.budget import spent_of, standing
from dp_train.privacy.ledger.lines import Book, Line, State
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.relations import strictest

_SAME = 1e-6
"""Relative difference that rounding to six digits may leave."""

_NO_BOUND = "no bound per person"

EARLIER = "events of earlier runs that trained the model"

Document = Mapping[str, Any]
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first figure of a card that the ledger does not give: where it stands, what is there, what should be."""

    figure: str
    on_card: Any
    derived: Any


def plan_section(plan: PrivacyPlan, steps: int) -> dict[str, Any]:
    """The public numbers of a plan, and how many of its steps ran."""
    return {**plan.describe(), "steps run": steps, "digest": plan.digest}


@lru_cache(maxsize=64)  # seconds each, and asked for before a run and after it
def guarantee_curve(plan: PrivacyPlan, steps: int) -> Curve:
    """(ε, δ) pairs of the steps charged, with the plan's own δ among them; closer where an attacker's curve bends."""
    if not plan.private or steps == 0:
        return ()
    deltas = sorted({plan.delta, 0.5, 0.3, 0.03, *(10.0**-power for power in range(1, 11))})
    return tuple(zip(plan.delta_curve(deltas, steps=steps), deltas, strict=True))


def ledger_section(book: Book, reservation: str) -> dict[str, Any]:
    """What the ledger knew when the card was written: this run, what was declared with it, and all before it."""
    line = book.lines[reservation]
    stands = standing(book, line.population)
    together = [other for other in book.lines.values() if other.procedure == line.procedure]
    procedure = joint_claim([spent_of(other) for other in together])
    of_all = stands.joint
    unbounded = len(stands.lines) - sum(other.bounded for other in stands.lines)
    valid = (
        "the parameters of all of them were declared before the first began: composed exactly"
        if stands.together
        else "a Rényi filter holds whatever was seen before a run was chosen"
        + (", if the budget was not raised because of it" if stands.raised else "")
        if stands.budget
        else "only if nobody chose a run by what an earlier one gave: no budget is declared, so no filter holds"
    )
    budget = stands.budget
    return {
        "reservation": line.reservation,
        "population": stands.label or line.population[:16],
        "row": line.row_hash,
        "head": book.head,
        "steps run": f"{line.steps} of {line.planned_steps} ({_STATES[line.state]})",
        "ε of this run": _of_run(line),
        f"ε of the procedure, {len(together)} run{'s' * (len(together) > 1)} declared together": _joint(procedure),
        f"ε of all {len(stands.lines)} runs on these people": number(stands.spent)
        if of_all.epsilon is not None and of_all.unit is Unit.USER
        else _joint(of_all),
        "δ of all runs": stands.delta,
        **(
            {"why that is more": "the procedure is a part of all runs, and the sum of all is bounded as stated below"}
            if len(stands.lines) > len(together)
            else {}
        ),
        "that sum is valid because": valid,
        "people": _people(book, line.population),
        "budget": f"ε={budget.epsilon:g}, δ={budget.delta:g}" if budget else "none declared",
        **({"runs that bound nothing for a person": unbounded} if unbounded else {}),
    }


def _people(book: Book, population: str) -> str:
    """What the ledger knows of runs under other keys on the same people."""
    if population not in book.people:
        return "not compared with those of other populations: nobody entered them"
    others = len(book.group(population)) - 1
    found = "shared with no other population of this store"
    if others:
        found = f"{others} other populations of this store share some; their runs are counted"
    silent = {line.population for line in book.lines.values()} - book.people.keys()
    unknown = f"; {len(silent)} populations of this store entered nobody" if silent else ""
    return f"{found}{unknown}; what other stores spent on them is not known"


_STATES = {
    State.OPEN: "open, counted in full",
    State.COMMITTED: "the run came to its end",
    State.ABORTED: "ended early: charged in full once a step ran",
}


def differences(card: Document, book: Book) -> Iterator[Difference]:
    """Figures of a card that do not follow from the ledger, in the card's order.

    Args:
      card: as it was written, of a run with a line in the ledger.
      book: the ledger up to the head that the card names.
    """
    reservation = card["ledger"]["reservation"]
    line = book.lines[reservation]
    plan = plan_of(line.plan)
    derived: dict[str, Mapping[str, Any]] = {"plan": plan_section(plan, line.steps)}
    if "epsilon" in card["claim"]:
        earlier = card["claim"].get(EARLIER, [])
        known = {other.event for other in book.of(line.population)}
        charged = plan.charged(line.steps)
        spent = plan.epsilon(charged)
        if earlier:
            same = [other for other in book.of(line.population) if other.event in earlier]
            events = [plan.event(charged), *map(event_from_json, earlier)]
            spent = compose(events, strictest(one.relation for one in (line, *same)), plan.delta).epsilon
        derived["claim"] = {
            EARLIER: [event for event in earlier if event in known] or None,
            "epsilon": number(spent),
            "delta": plan.delta,
            "unit": plan.unit.value,
        }
        from dp_train.engines.cross_check import opinions  # seconds to import

        derived["accounting"] = {f"ε of the plan by {name}": number(value) for name, value in opinions(plan).items()}
        curve = {f"δ={delta:g}": number(epsilon) for epsilon, delta in guarantee_curve(plan, charged)}
        derived["guarantee as a curve"] = curve
    derived["consent"] = {"snapshot root": line.facts.consent_root}
    derived["ledger"] = ledger_section(book, reservation)
    for title in card:
        for name, value in derived.get(title, {}).items():
            there = card[title].get(name)
            if not _same(there, value):
                yield Difference(figure=f"{title}, {name}", on_card=there, derived=value)


def plan_of(fields: Mapping[str, Any]) -> PrivacyPlan:
    """The plan that `PrivacyPlan.describe` described."""
    values = {name: fields[name] for name in fields if name != "neighboring_relation"}
    clip = math.inf if values["clip_norm"] is None else values["clip_norm"]
    return PrivacyPlan(**{**values, "unit": Unit(values["unit"]), "clip_norm": clip})


def number(value: float) -> float | str:
    """Six decimals; JSON has no inf."""
    return round(value, 6) if math.isfinite(value) else "unbounded"


def _joint(claim: JointClaim) -> float | str:
    if claim.epsilon is None:
        return "none: " + "; ".join(claim.why_none)
    return number(claim.epsilon) if claim.unit is Unit.USER else _NO_BOUND


def _of_run(line: Line) -> float | str:
    if line.refuted is not None:
        return f"none: an audit refuted it ({line.refuted})"
    if line.withheld:
        return "none: withheld, for the run departed from its plan"
    return _NO_BOUND if line.price is None else number(line.price.epsilon)


def _same(there: Any, value: Any) -> bool:
    if isinstance(there, float | int) and isinstance(value, float | int) and not isinstance(value, bool):
        return math.isclose(there, value, rel_tol=_SAME, abs_tol=1e-9)
    return bool(there == value)
