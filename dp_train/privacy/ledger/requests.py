"""Runs that are to be reserved, and the lines that they would begin, priced by what their plans may release."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from dp_train.privacy.composition import Price, compose, event_from_json, event_json
from dp_train.privacy.ledger.lines import Line, RunFacts, State, bounds_people, facts_values, price_values
from dp_train.privacy.plan import PrivacyPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One run that is to be reserved.

    Attributes:
      plan: calibrated, or without privacy.
      facts: what else its line keeps.
      reservation: its id; drawn, unless a run folder keeps one so that a crash between its note and the row is mended.
      event: what it costs, where that is more than `plan.event()`: a declared choice among several such runs.
    """

    plan: PrivacyPlan
    facts: RunFacts = field(default_factory=RunFacts)
    reservation: str = field(default_factory=lambda: secrets.token_hex(8))
    event: Any = None


def line_of(request: Request, population: str, procedure: str, *, priced: bool = True) -> Line:
    """Return the line that a request would begin; `priced=False` leaves ε out, where only the event counts."""
    plan = request.plan
    event = event_json(plan.event() if request.event is None else request.event)
    price: Price | None = None
    if bounds_people(plan):
        price = Price(epsilon=0.0, accountant="none", interval=None)
        if priced:
            price = compose([event_from_json(event)], plan.neighboring_relation, plan.delta)
    return Line(
        reservation=request.reservation,
        population=population,
        procedure=procedure,
        state=State.OPEN,
        steps=plan.steps,
        planned_steps=plan.steps,
        event=event,
        full_event=event,
        relation=plan.neighboring_relation,
        delta=plan.delta,
        price=price,
        plan=plan.describe(),
        plan_digest=plan.digest,
        facts=request.facts,
        first_row=0,
        row_hash="",
        recorded_at="",
    )


def reserve_row(line: Line) -> dict[str, Any]:
    """Return the body of the row that begins a line."""
    return {
        "kind": "reserve",
        "reservation": line.reservation,
        "population": line.population,
        "procedure": line.procedure,
        "event": line.full_event,
        "relation": line.relation.value,
        "delta": line.delta,
        "price": price_values(line.price),
        "plan": dict(line.plan),
        "plan_digest": line.plan_digest,
        "facts": facts_values(line.facts),
    }


def price_of(event: str, line: Line) -> Price:
    """Return what an event costs on its own, under the relation of a line and at its δ."""
    return compose([event_from_json(event)], line.relation, line.delta)
