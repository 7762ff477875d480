"""`dp-train consent report`: what a privacy officer hands on, as Markdown and JSON."""

from __future__ import annotations

import math
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dp_train.anonymize.recall_figures import recall_figures
from dp_train.cli.consent_store import open_store
from dp_train.consent import manifest
from dp_train.consent.practice import Practice
from dp_train.consent.reports import (
    PopulationFigure,
    ReportFacts,
    ReportKind,
    RunFigure,
    report,
    report_json,
    report_markdown,
)
from dp_train.consent.store import ConsentStore
from dp_train.consent.tallies import tally
from dp_train.errors import ConfigError, StoreError
from dp_train.privacy.ledger.budget import standing
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import Book
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.inventory import is_retired


def run(options: Namespace) -> int:
    """Print the report that was asked for, or write all of them into a folder.

    Raises:
      StoreError: a log does not hold; the reports are written all the same, and say so.
    """
    facts = _facts(options)
    kinds = [ReportKind(options.kind)] if options.kind else list(ReportKind)
    for kind in kinds:
        document = report(kind, facts)
        if options.out is not None:
            _write(Path(options.out), kind, {"md": report_markdown(document), "json": report_json(document)})
        else:
            print(report_json(document) if options.json else report_markdown(document))
    for found in (facts.consent_chain, facts.ledger_chain):
        if found is not None and found.broken is not None:
            raise StoreError(f"consent report: {found.broken.reason}; restore the store from a backup that verifies")
    return 0


def _write(folder: Path, kind: ReportKind, texts: dict[str, str]) -> None:
    for ending, text in texts.items():
        path = folder / f"{kind.value}.{ending}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"consent report: {path}: {error.strerror}; choose a folder that can be written"
            ) from error
        print(f"wrote {path}")


def _facts(options: Namespace) -> ReportFacts:
    now = datetime.now(UTC)
    store = open_store(options)
    try:
        ledger = Ledger(store.database)
        ledger_chain = ledger.verify()
        book = Book() if ledger_chain.broken is not None else ledger.book()
        recall = recall_figures()
        return ReportFacts(
            as_of=now,
            tallies=tally(store, as_of=now),
            consent_chain=store.verify(),
            ledger_chain=ledger_chain if ledger_chain.rows or ledger_chain.broken else None,
            runs=_runs(book),
            populations=_populations(book),
            practice=_practice(store),
            retired=sum(is_retired(folder) for folder in RunFolder.all()),
            redaction={kind: row["recall"] for kind, row in recall.generated.items() if row["labelled"]},
            redaction_note=f"{recall.describe()}; measured by: {recall.command}",
        )
    finally:
        store.database.close()


def _practice(store: ConsentStore) -> Practice:
    """What the configurations in the run folders say; a run that does not say is counted as one that did without."""
    folders = list(RunFolder.all())
    runs = [read_config(folder.config) for folder in folders]
    tracked = [run for run in runs if _part(run, "tracking").get("name") != "off"]

    def count(holds: Callable[[Mapping[str, Any]], object], part: str) -> int:
        return sum(bool(holds(_part(run, part))) for run in runs)

    tables = {Path("runs/units"), *(Path(kept) for run in runs if (kept := _part(run, "corpus").get("tables")))}
    return Practice(
        runs=len(runs),
        tasks=Counter(sorted(str(_part(run, "task").get("name", "a task that is not named")) for run in runs)),
        public=count(lambda corpus: corpus.get("train_on") == "public", "corpus"),
        research=count(lambda corpus: corpus.get("research_only"), "corpus"),
        names_off=count(lambda anonymize: anonymize.get("names") is not True, "anonymize"),
        patterns_off=count(lambda anonymize: anonymize.get("patterns") is not True, "anonymize"),
        more_finders=count(lambda anonymize: anonymize.get("people") or anonymize.get("presidio"), "anonymize"),
        without_privacy=count(lambda privacy: privacy.get("mode") != "dp", "privacy"),
        per_example=count(lambda privacy: privacy.get("mode") == "dp" and privacy.get("unit") != "user", "privacy"),
        no_ledger=sum(run.get("ledger") is not True for run in runs),
        listed=sum((folder.path / manifest.PRIVATE / manifest.FILE).is_file() for folder in folders),
        tables=sum(1 for folder in tables for _ in folder.rglob("*.arrow")),
        samples=sum(_part(run, "evaluation").get("samples") != 0 for run in tracked),
        statistics=sum(_part(run, "tracking").get("log_private_statistics") is not False for run in tracked),
        people_held=len(store.held()),
        rows_unread=store.set_aside(),
    )


def _part(run: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    values = run.get(name)
    return values if isinstance(values, Mapping) else {}


def _runs(book: Book) -> list[RunFigure]:
    return [
        RunFigure(
            reservation=line.reservation,
            population=line.population,
            purpose=line.facts.purpose,
            state=line.state.value,
            steps=line.steps,
            epsilon=line.promised,
            delta=line.delta,
        )
        for line in book.lines.values()
    ]


def _populations(book: Book) -> list[PopulationFigure]:
    figures = []
    for population in book.populations:
        stand = standing(book, population)
        figures.append(
            PopulationFigure(
                population=population,
                budget=None if stand.budget is None else stand.budget.epsilon,
                spent=stand.spent
                if math.isfinite(stand.spent) and not stand.without_bound and not stand.withheld
                else None,
                delta=stand.delta,
                left=stand.left,
            )
        )
    return figures
