"""Lines of the ledger, and what a population spent, as tables and JSON have them."""

from __future__ import annotations

import json
import math
from typing import Any

from dp_train.privacy.ledger.budget import Standing
from dp_train.privacy.ledger.lines import Line
from dp_train.privacy.rounding import rounded_up


def line_row(line: Line) -> tuple[str, ...]:
    """Return a line as a row of the table."""
    return (
        str(line.first_row),
        line.reservation,
        line.facts.run,
        line.state.value,
        f"{line.steps} of {line.planned_steps}",
        _epsilon(line),
        f"{line.delta:g}" if line.price else "",
    )


def _epsilon(line: Line) -> str:
    if line.withheld:
        return "withheld" if line.refuted is None else "refuted"
    return rounded_up(line.price.epsilon) if line.price else "no bound"


def standing_values(stand: Standing) -> dict[str, Any]:
    """Return what a population spent, as JSON has it."""
    budget = stand.budget
    return {
        "population": stand.population,
        "label": stand.label,
        "budget": None if budget is None else {"epsilon": budget.epsilon, "delta": budget.delta},
        "delta": stand.delta,
        "spent": finite(stand.spent),
        "left": stand.left,
        "declared_together": stand.together,
        "budget_raised_after_first_run": stand.raised,
        "epsilon_as_if_declared_together": finite(stand.declared.epsilon),
        "epsilon_by_filter": None if stand.adaptive is None else finite(stand.adaptive),
        "joined_populations": stand.joined,
        "open": stand.open_lines,
        "runs_without_bound": stand.without_bound,
        "runs": [line_values(line) for line in stand.lines],
    }


def line_values(line: Line) -> dict[str, Any]:
    """Return a line as JSON has it."""
    return {
        "row": line.first_row,
        "reservation": line.reservation,
        "procedure": line.procedure,
        "run": line.facts.run,
        "state": line.state.value,
        "steps": line.steps,
        "planned_steps": line.planned_steps,
        "epsilon": line.promised,
        "withheld": line.withheld,
        "refuted": line.refuted,
        "delta": line.delta,
        "relation": line.relation.value,
        "plan": dict(line.plan),
        "event": json.loads(line.event),
        "recorded_at": line.recorded_at,
    }


def finite(value: float) -> float | None:
    """Return a number as JSON can have it: infinity bounds nothing and is null."""
    return value if math.isfinite(value) else None
