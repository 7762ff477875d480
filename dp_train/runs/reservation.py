"""A run and the ledger: reserve before the first step, note where, say what is left.

A run's folder keeps `ledger.json` (its reservation, and the last hash of the chain, against which the ledger can be
held) and the private list of its people. The note is written before the row: a crash between the two leaves
a note without a row, and resuming reserves; never a row that nobody knows of.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dp_train.consent.manifest import manifest_of, write_manifest
from dp_train.consent.principals import PrincipalKey
from dp_train.corpora.spec import TrainOn
from dp_train.errors import ConsentError, DpTrainError
from dp_train.privacy.ledger.ledger import Ledger, Request, Reservation
from dp_train.privacy.ledger.lines import RunFacts
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.rounding import rounded_up
from dp_train.runs.folder import RunFolder
from dp_train.runs.heads import check_start
from dp_train.runs.recipe import Recipe
from dp_train.store.database import absolute_url, shown
from dp_train.tracking.provenance import git_state, versions

if TYPE_CHECKING:
    from dp_train.runs.prepare import RunData

NOTE = "ledger.json"
SPENDS_NOTHING = "learns from published text alone: nobody's budget is touched"
NO_BUDGET = "ledger: no budget is declared for these people; dp-train ledger declare --epsilon … sets one"


def store_url(config: Recipe) -> str:
    """Address of the store of the configuration."""
    return absolute_url(config.store.url, Path.cwd())


@contextmanager
def spending(
    config: Recipe,
    material: RunData,
    plan: PrivacyPlan,
    folder: RunFolder,
    out: Console,
    name: str,
    reservation: Reservation | None,
) -> Iterator[Reservation | None]:
    """The run's line in the ledger, taken up again on resume; None with ledger=false.

    Raises:
      BudgetError: the run would pass the budget of its people.
    """
    key = PrincipalKey.load(config.consent.key)
    units = material.units
    noted = folder.read_json(NOTE).get("reservation")
    identifier = noted or (reservation.identifier if reservation else secrets.token_hex(8))
    manifest = manifest_of(
        [units.people], key, run=identifier, population=units.population, purpose=units.purpose, root=units.consent_root
    )
    write_manifest(manifest, folder.path)
    if not config.ledger:
        if config.corpus.train_on is TrainOn.PUBLIC:
            out.print(f"{name}: {SPENDS_NOTHING}")
        yield None
        return
    note = {"reservation": identifier, "population": units.population, "store_at": shown(store_url(config))}
    folder.write_json(NOTE, note)
    ledger = reservation.ledger if reservation else Ledger.open(store_url(config))
    try:
        check_start(ledger.database)
        taken = reservation or ledger.take_up(identifier, plan)
        if taken is None:
            engine = config.engine.name if plan.private else "non_private"
            facts = RunFacts(
                run=name,
                engine=engine,
                sampler=plan.mechanism.sampler.name,
                purpose=units.purpose.value,
                consent_root=units.consent_root,
                cohort=key.sealed(units.cohort),
                **_code(),
            )
            request = Request(plan=plan, facts=facts, reservation=identifier)
            (taken,) = ledger.reserve_together([request], units.population)
            if ledger.book().budget(units.population) is None:
                out.print(NO_BUDGET)
        folder.write_json(NOTE, {**note, "head": taken.head})
        yield taken
        with suppress(DpTrainError):
            folder.write_json(NOTE, {**note, "head": ledger.book().lines[identifier].row_hash})
    finally:
        if reservation is None:
            ledger.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A run of a procedure that is to be reserved: its plan, its name, its people's snapshot, the id of its line."""

    plan: PrivacyPlan
    name: str
    consent_root: str
    reservation: str


def declare_together(
    config: Recipe, runs: Sequence[Declared], population: str, out: Console
) -> list[Reservation | None]:
    """Reserve all runs of a procedure before the first, so that they compose exactly; all None without a ledger.

    A line that is there already is taken up: the procedure was interrupted, and its runs are not charged twice.

    Args:
      runs: in the order in which they will run.

    Raises:
      BudgetError: together they would pass the budget.
    """
    if not config.ledger:
        return [None] * len(runs)
    ledger = Ledger.open(store_url(config))
    check_start(ledger.database)
    code = _code()
    known = {run.reservation: ledger.take_up(run.reservation, run.plan) for run in runs}
    requests = [
        Request(
            plan=run.plan,
            facts=RunFacts(
                run=run.name,
                engine=config.engine.name if run.plan.private else "non_private",
                sampler=run.plan.mechanism.sampler.name,
                consent_root=run.consent_root,
                **code,
            ),
            reservation=run.reservation,
        )
        for run in runs
        if known[run.reservation] is None
    ]
    if requests:
        known |= {made.identifier: made for made in ledger.reserve_together(requests, population)}
    if ledger.book().budget(population) is None:
        out.print(NO_BUDGET)
    return [known[run.reservation] for run in runs]


@contextmanager
def released_if_unused(waiting: Iterator[Reservation | None]) -> Iterator[None]:
    """Closes, on every way out, the lines of runs that nobody took from `waiting`: they never began.

    A line that was taken is the trainer's to close. Where it could not, the line stays open and counts in full.
    """
    try:
        yield
    finally:
        for reservation in filter(None, waiting):
            with suppress(DpTrainError):
                reservation.forgo()


def left_after(config: Recipe, plan: PrivacyPlan) -> dict[str, Any]:
    """What the ledger says of a plan, as JSON values; reads it, and makes and spends nothing."""
    if config.corpus.train_on is TrainOn.PUBLIC:
        return {"in_ledger": False, "epsilon_spent": 0.0}
    if not config.ledger:
        return {"in_ledger": False}
    try:
        population = PrincipalKey.load(config.consent.key).population_id
    except ConsentError:
        return {"in_ledger": True, "population": None, "epsilon_of_procedure": _or_none(plan)}
    ledger = Ledger.peek(store_url(config))
    if ledger is None:
        return {"in_ledger": True, "population": population, "epsilon_of_procedure": _or_none(plan)}
    before, after, fits = ledger.preview([Request(plan=plan)], population)
    ledger.close()
    return {
        "in_ledger": True,
        "population": population,
        "label": before.label,
        "budget": None if before.budget is None else {"epsilon": before.budget.epsilon, "delta": before.budget.delta},
        "spent_before": before.spent,
        "epsilon_of_procedure": after.spent,
        "left_after": after.left,
        "fits": fits,
        "runs_before": len(before.lines),
        "runs_without_bound": before.without_bound,
        "composed": "exactly" if after.together else "by a filter" if after.budget else "as if declared together",
    }


def describe_left(values: dict[str, Any]) -> str:
    """`left_after` for people, on one line."""
    if "epsilon_spent" in values:
        return SPENDS_NOTHING
    if not values["in_ledger"]:
        return "ledger: off; the run would be in no ledger, and its card would say so"
    if values.get("budget") is None:
        return NO_BUDGET
    if not values["fits"]:
        return f"ledger: does not fit the budget of ε={values['budget']['epsilon']:g}; the run would be refused"
    return (
        f"ledger: ε={rounded_up(values['spent_before'])} of {values['budget']['epsilon']:g} is spent; after this run "
        f"ε={rounded_up(values['epsilon_of_procedure'])} ({values['composed']})"
    )


def _or_none(plan: PrivacyPlan) -> float | None:
    return plan.epsilon() if plan.private else None


def _code() -> dict[str, Any]:
    git = git_state()
    return {"versions": versions(), "commit": None if git is None else git.commit}
