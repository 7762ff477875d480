"""A run and the ledger: reserve before the first step, note where, say what is left.

A run's folder keeps `ledger.json` (its id, its store, and the last hash of the chain, with which the ledger can be
compared) and the private list of its people. Both, and the store's row that says where the folder is, are written
before the line in the ledger: a crash between leaves a note without a line, and resuming reserves.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dp_train.consent.manifest import manifest_of, write_manifest
from dp_train.consent.principals import PrincipalKey
from dp_train.corpora.spec import TrainOn
from dp_train.errors import ConsentError, DpTrainError
from dp_train.privacy.ledger.ledger import Ledger, Reservation
from dp_train.privacy.ledger.lines import RunFacts, State
from dp_train.privacy.ledger.requests import Request
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.rounding import rounded_up
from dp_train.runs.folder import RunFolder
from dp_train.runs.heads import check_start
from dp_train.runs.project import NOTE, key_path, refuse_second_store, store_url
from dp_train.runs.recipe import Recipe
from dp_train.store.database import Database, shown
from dp_train.store.run_folders import RunPlace, note_place
from dp_train.tracking.provenance import git_state, versions

if TYPE_CHECKING:
    from dp_train.runs.prepare import Parts

SPENDS_NOTHING = "learns from published text alone: nobody's budget is touched"
NO_BUDGET = "ledger: no budget is declared for these people; dp-train ledger declare --epsilon … sets one"


@contextmanager
def reserved(
    parts: Parts, folder: RunFolder, name: str, *, say: Callable[[str], None] = lambda line: None
) -> Iterator[Reservation | None]:
    """The run's line in the ledger, continued on resume; None with ledger=false.

    Order: list of people → note in the folder → row that says where the folder is → line in the ledger. A crash on the
    way leaves a list of people too many, and never a line, or a model, whose people and folder are not known.

    Raises:
      BudgetError: the run would pass the budget of its people.
      StoreError: the store cannot be written, or would be a second one.
    """
    recipe, plan, units = parts.recipe, parts.plan, parts.data.units
    key = PrincipalKey.load(key_path(recipe.consent.key))
    identifier = folder.run_id or secrets.token_hex(8)
    refuse_second_store(recipe)
    write_manifest(
        manifest_of(
            [units.people],
            key,
            run=identifier,
            population=units.population,
            purpose=units.purpose,
            root=units.consent_root,
        ),
        folder.path,
    )
    database = Database(store_url(recipe))
    try:
        note = {**folder.read_json(NOTE), **note_of(recipe, identifier, units.population)}
        folder.write_json(NOTE, note)
        note_place(database, place_of(recipe, folder, identifier, name, units.population))
        if not recipe.ledger:
            if recipe.corpus.train_on is TrainOn.PUBLIC:
                say(f"{name}: {SPENDS_NOTHING}")
            yield None
            return
        ledger = Ledger(database)
        check_start(database)
        facts = run_facts(
            recipe,
            plan,
            name,
            purpose=units.purpose.value,
            consent_root=units.consent_root,
            cohort=key.sealed(units.cohort),
        )
        taken = ledger.take_up(identifier, plan)
        if taken is None:
            request = Request(plan=plan, facts=facts, reservation=identifier)
            (taken,) = ledger.reserve_together([request], units.population)
            if ledger.book().budget(units.population) is None:
                say(NO_BUDGET)
        folder.write_json(NOTE, {**note, "head": taken.head})
        yield replace(taken, facts=facts)
        with suppress(DpTrainError):
            folder.write_json(NOTE, {**note, "head": ledger.book().lines[identifier].row_hash})
    finally:
        database.close()


def note_of(recipe: Recipe, identifier: str, population: str) -> dict[str, Any]:
    """What a run's folder says of its place in the store."""
    return {
        "reservation": identifier,
        "population": population,
        "store": shown(store_url(recipe)),
        "in_ledger": recipe.ledger,
    }


def place_of(recipe: Recipe, folder: RunFolder, identifier: str, name: str, population: str) -> RunPlace:
    """What the store says of a run's folder."""
    return RunPlace(
        run=identifier,
        folder=folder.path.absolute(),
        label=name,
        task=recipe.task.name,
        population=population,
        in_ledger=recipe.ledger,
    )


def run_facts(recipe: Recipe, plan: PrivacyPlan, name: str, **known: Any) -> RunFacts:
    """What a line keeps of a run beside its plan. The run's identity belongs here."""
    git = git_state()
    return RunFacts(
        run=name,
        engine=recipe.engine.name if plan.private else "non_private",
        sampler=plan.mechanism.sampler.name,
        versions=versions(),
        commit=None if git is None else git.commit,
        **known,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A trial of a study that is to be reserved: its recipe, plan and name, and the id of its line."""

    recipe: Recipe
    plan: PrivacyPlan
    name: str
    reservation: str


def declare_together(runs: Sequence[Declared], *, say: Callable[[str], None] = lambda line: None) -> None:
    """Reserve all runs of a study before the first, so that they compose exactly; those with ledger=false are left out.

    A line that is there already stays: the study was interrupted, and its runs are not charged twice.

    Raises:
      BudgetError: together they would pass the budget.
    """
    groups: dict[tuple[str, str], list[Declared]] = {}
    for run in runs:
        if run.recipe.ledger:
            key = PrincipalKey.load(key_path(run.recipe.consent.key))
            groups.setdefault((store_url(run.recipe), key.population_id), []).append(run)
    for (url, population), together in groups.items():
        ledger = Ledger.open(url)
        try:
            check_start(ledger.database)
            known = ledger.book().lines
            requests = [
                Request(plan=run.plan, facts=run_facts(run.recipe, run.plan, run.name), reservation=run.reservation)
                for run in together
                if run.reservation not in known
            ]
            if requests:
                ledger.reserve_together(requests, population)
            if ledger.book().budget(population) is None:
                say(NO_BUDGET)
        finally:
            ledger.close()


def release_unused(runs: Sequence[Declared]) -> None:
    """Close the lines of runs that never began. One that began is the trainer's to close, else it counts in full."""
    for url in {store_url(run.recipe) for run in runs if run.recipe.ledger}:
        with suppress(DpTrainError):
            ledger = Ledger.open(url)
            try:
                lines = ledger.book().lines
                for run in runs:
                    line = lines.get(run.reservation)
                    if line is not None and line.state is State.OPEN and not line.begun:
                        Reservation(ledger, line.reservation, line.population, run.plan, line.row_hash).forgo()
            finally:
                ledger.close()


def left_after(config: Recipe, plan: PrivacyPlan) -> dict[str, Any]:
    """What the ledger says of a plan, as JSON values; reads it, and makes and spends nothing."""
    if config.corpus.train_on is TrainOn.PUBLIC:
        return {"in_ledger": False, "epsilon_spent": 0.0}
    if not config.ledger:
        return {"in_ledger": False}
    try:
        population = PrincipalKey.load(key_path(config.consent.key)).population_id
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
