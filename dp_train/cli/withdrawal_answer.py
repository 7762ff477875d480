"""What `dp-train consent withdraw | impact | erase` answers: runs, bounds, actions, what is left; a table or JSON."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from dp_train.cli.show import console, table
from dp_train.consent.impact import NOT_UNLEARNT, RETRAIN_SPENDS, Impact, RunImpact
from dp_train.consent.withdrawal import Withdrawal
from dp_train.privacy.ledger.budget import standing
from dp_train.privacy.ledger.lines import Book
from dp_train.privacy.rounding import rounded_down, rounded_up
from dp_train.runs.inventory import MissingRun, missing_lines


def tell(
    options: Namespace,
    impact: Impact,
    book: Book,
    population_id: str,
    done: Withdrawal | None,
    did: Sequence[str],
    missing: Sequence[MissingRun],
) -> None:
    """Print it."""
    left = _left(impact, book, population_id)
    if options.json:
        values: dict[str, Any] = {
            "stored": None if done is None else {"at": done.at.isoformat(), "new": done.new, "receipt": done.receipt},
            "runs": [_finite(each.values()) for each in impact.runs],
            "runs_without_a_list": impact.without_list,
            "runs_not_found": [each.values() for each in missing],
            "budget": left,
            "done": list(did),
            "limits": [NOT_UNLEARNT, RETRAIN_SPENDS],
        }
        print(json.dumps(values, indent=2, ensure_ascii=False))
        return
    out = console()
    if done is not None:
        event = done.receipt["statement"]["event"]
        new = "" if done.new else " (it was there already)"
        out.print(
            f"withdrawn from {done.at.isoformat(timespec='seconds')} on{new}; event {event['seq']} {event['hash']}"
        )
    elif getattr(options, "dry_run", False):
        out.print("dry run: nothing was stored or changed")
    if impact.runs:
        out.print(table(("run", "purpose", "left", "group bound", "action", "by", "models"), map(_row, impact.runs)))
    else:
        out.print(f"their data is in no run that {'is found' if missing else 'there is'}")
    for line in missing_lines(missing):
        out.print(line, markup=False)
    if impact.without_list:
        out.print(_without_list(impact.without_list))
    for line in did:
        out.print(line, markup=False)
    if left["retrain_needs"] is not None:
        left_over = (
            "no budget is declared" if left["left"] is None else f"ε={rounded_down(left['left'])} is left of the budget"
        )
        out.print(f"{RETRAIN_SPENDS}: as the run was, ε={rounded_up(left['retrain_needs'])}; {left_over}")
    if impact.runs:
        out.print(NOT_UNLEARNT)


def _without_list(runs: int) -> str:
    if runs == 1:
        return "1 run keeps no list of people: nobody can tell whether they are in it"
    return f"{runs} runs keep no list of people: nobody can tell whether they are in those"


def _row(each: RunImpact) -> tuple[str, ...]:
    bound = "none" if each.bound is None else f"ε={rounded_up(each.bound.epsilon)}, δ={each.bound.delta:.1e}"
    manifest = each.run.manifest
    return (
        each.run.name,
        "" if manifest is None else manifest.purpose.value,
        str(each.left),
        bound,
        each.action.value.replace("_", " ") + (f" ({', '.join(each.because)})" if each.because else ""),
        "" if each.act_by is None else f"{each.act_by:%Y-%m-%d}",
        ", ".join(each.run.versions) + (" retired" if each.run.retired else ""),
    )


def _left(impact: Impact, book: Book, population_id: str) -> dict[str, Any]:
    """What the population may still spend, and what the dearest of the runs would cost again."""
    needs = max((each.run.epsilon for each in impact.runs if each.run.epsilon is not None), default=None)
    stand = standing(book, population_id)
    return {
        "population": population_id,
        "budget": None if stand.budget is None else stand.budget.epsilon,
        "spent": stand.spent if math.isfinite(stand.spent) else None,
        "left": stand.left,
        "retrain_needs": needs,
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: an ε that bounds nothing is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
