"""`dp-train consent schema | import`: how events come into the store."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import Namespace
from dataclasses import MISSING, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dp_train.cli.consent_store import open_store
from dp_train.cli.load_config import compose
from dp_train.cli.show import console, table
from dp_train.consent.event_json import words_of, write_events
from dp_train.consent.events import ConsentEvent
from dp_train.consent.imports import Imported, import_events, import_rows
from dp_train.consent.principals import ID_RULE, PrincipalKey
from dp_train.consent.rows import PERSON, read_row
from dp_train.consent.store import ConsentStore
from dp_train.consent.vendors import Vendor, read_mapping, vendor_rows
from dp_train.errors import ConfigError, DataError
from dp_train.runs.populations import embedded_events, principal_key
from dp_train.runs.recipe import Recipe, StoreConfig
from dp_train.store.heads import keep_heads

SET_ASIDE = 10
"""Exit code of an import that is done and has rows that are no events: a user has to look at them."""


def run(options: Namespace) -> int:
    """Do what the second word says."""
    if options.does == "schema":
        return _schema(options)
    if options.embedded:
        return _import_embedded(config_of(options, options.words), options)
    if len(options.words) != 1:
        raise ConfigError(f"consent import: {len(options.words)} files; expected one, or key=value with --embedded")
    path = Path(options.words[0])
    if not path.exists():  # before a store is made for it
        raise DataError(f"consent import: {path}: no such file; expected one that can be read")
    store = open_store(options, makes=True, copies=True)
    try:
        return _import(store, path, options)
    finally:
        store.database.close()


def config_of(options: Namespace, overrides: list[str]) -> Recipe:
    """The configuration that rules, corpus and key come from, as a run of the same words has it, on the store."""
    config, _ = compose(["consent.store=true", *overrides])
    consent = config.consent if options.key is None else replace(config.consent, key=options.key)
    return replace(config, consent=consent, store=StoreConfig(url=options.store or config.store.url))


def _schema(options: Namespace) -> int:
    rows: list[tuple[str, str, str]] = [(PERSON, "instead of pii_principal_id", f"the person's own id ({ID_RULE})")]
    for field in fields(ConsentEvent):
        needed = "needed" if field.default is MISSING and field.name != "seq" else ""
        rows.append((field.name, needed, words_of(field.name)))
    if options.json:
        print(json.dumps([dict(zip(("field", "needed", "values"), row, strict=True)) for row in rows], indent=2))
    else:
        console().print(table(("field", "", "values"), rows))
    return 0


def _import_embedded(config: Recipe, options: Namespace) -> int:
    """Through a file, as everybody's events come, so that nothing here is a way around the checks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embedded.jsonl"
        write_events(embedded_events(config), path)
        options.store = config.store.url
        store = open_store(options, makes=True, copies=True)
        try:
            if not options.dry_run:
                store.bind(principal_key(config))
            return _import(store, path, options)
        finally:
            store.database.close()


def _import(store: ConsentStore, path: Path, options: Namespace) -> int:
    key = None if options.key is None else PrincipalKey.load(options.key)

    def progress(rows: int) -> None:
        if rows % 100_000 == 0:
            print(f"{rows:,} rows", file=sys.stderr)

    words: dict[str, Any] = {"key": key, "dry_run": options.dry_run, "progress": progress}
    if getattr(options, "format", None) is None:
        done = import_events(store, path, options.quarantine, **words)
    else:
        done = _import_export(store, path, options, words)
    keep_heads(store.database)
    head = store.head()
    values = {
        "rows": done.rows,
        "new": done.new,
        "same": done.same,
        "held": done.held,
        "unread": done.unread,
        "suppressed": done.suppressed,
        "near_misses": done.near,
        "dry_run": options.dry_run,
        "events_in_store": head.seq,
        "head": head.event_hash,
        "quarantine": options.quarantine if done.set_aside else None,
    }
    print_values(options, values, title="dry run, nothing was stored" if options.dry_run else "import")
    _explain(done)
    if done.stopped is not None:
        number, why = done.stopped
        raise DataError(
            f"consent import: row {number}: whose it is cannot be read: {why}; what denies was stored, no grant from "
            "there on: mend the row and repeat, or set such rows aside with --quarantine PATH"
        )
    return SET_ASIDE if done.set_aside else 0


def _import_export(store: ConsentStore, path: Path, options: Namespace, words: dict[str, Any]) -> Imported:
    """The rows of another platform's export, by the officer's mapping."""
    if options.mapping is None or words["key"] is None:
        raise ConfigError(f"consent import: --format {options.format}; expected --mapping FILE and --key FILE with it")
    received = datetime.now(UTC)
    found = vendor_rows(Vendor(options.format), path, read_mapping(Path(options.mapping)), words["key"])
    rows = ((number, read_row(values, words["key"], received=received)) for number, values in enumerate(found, 1))
    return import_rows(store, rows, received=received, quarantine=options.quarantine, **words)


def _explain(done: Imported) -> None:
    """What the officer has to look at, on the error stream, without content."""
    for why, count in sorted(done.problems.items(), key=lambda item: -item[1])[:10]:
        print(f"{count:,} rows set aside: {why}", file=sys.stderr)
    if done.held:
        print("their people are denied until a person decides: dp-train consent resolve PERSON", file=sys.stderr)
    if done.near:
        print(
            f"{done.near:,} unknown ids deny and differ by one letter from an id that is known: is each spelt right? "
            "dp-train consent link joins two ids of one person",
            file=sys.stderr,
        )


def print_values(options: Namespace, values: dict[str, Any], *, title: str) -> int:
    """Print values as JSON or as a table."""
    if options.json:
        print(json.dumps(values, indent=2))
    else:
        rows = [(name.replace("_", " "), str(value)) for name, value in values.items() if value is not None]
        console().print(table(("", ""), rows, title=title))
    return 0


def operator(options: Namespace) -> str:
    """Who enters an event: --operator, else DP_TRAIN_OPERATOR."""
    return str(getattr(options, "operator", None) or os.environ.get("DP_TRAIN_OPERATOR", ""))
