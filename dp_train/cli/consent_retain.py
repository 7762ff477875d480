"""`dp-train consent retain`: what is past the date that the organisation promised, listed or removed."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from dp_train.cli.consent_export import OVERDUE
from dp_train.cli.consent_people import officer_of
from dp_train.cli.consent_store import open_store
from dp_train.cli.show import console, table
from dp_train.consent.retention import Kept, due_records, expire_records
from dp_train.runs.heads import check_start
from dp_train.runs.inventory import missing_lines
from dp_train.runs.retaining import DueFile, DueFiles, due_files, remove, rules_of
from dp_train.store.heads import keep_heads


def run(options: Namespace) -> int:
    """List what is past its date, or remove it; 12 where anything of it is there afterwards.

    Raises:
      StoreError: the chain does not verify: an edited date would keep or remove what it should not.
    """
    rules, now = rules_of(options.rules), datetime.now(UTC)
    store = open_store(options)
    try:
        check_start(store.database)
        store.check()
        files = due_files(store.database.url, rules, now=now)
        if not options.apply:
            records = due_records(store, rules, now=now)
            _tell(options, files, files.files, records, applied=False)
            left = bool(files.files or any(records.values()))
        else:
            counts = Counter(file.kind for file in files.files)
            records = expire_records(store, rules, now=now, by=officer_of(options), files=counts)
            still = remove(files)
            keep_heads(store.database)
            _tell(options, files, still, records, applied=True)
            left = bool(still)
        return OVERDUE if left or files.missing else 0
    finally:
        store.database.close()


def _tell(
    options: Namespace, found: DueFiles, left: tuple[DueFile, ...], records: dict[Kept, int], *, applied: bool
) -> None:
    """Print what is past its date, or what became of it: files by their place, rows of the store by their number."""
    rows = {kind.value: records.get(kind, 0) for kind in (Kept.HOLDS, Kept.RECEIPTS)}
    if options.json:
        values: dict[str, Any] = {
            "applied": applied,
            "files": [_values(file, left=file in left) for file in found.files],
            "records": rows,
            "runs_not_found": [each.values() for each in found.missing],
        }
        print(json.dumps(values, indent=2))
        return
    out = console()
    lines = [(file.kind.value, file.name, _since(file), _state(file, left, applied)) for file in found.files]
    done = "removed" if applied else "past its date"
    lines += [(kind, f"{count:,} in the store", "", done) for kind, count in rows.items() if count]
    out.print(table(("kind", "what", "kept since", ""), lines) if lines else "nothing is past its date")
    if lines and not applied:
        out.print("dry run: nothing was removed; --apply does it")
    for line in missing_lines(found.missing):
        out.print(line, markup=False)


def _since(file: DueFile) -> str:
    return "unknown" if file.since is None else f"{file.since:%Y-%m-%d}"


def _state(file: DueFile, left: tuple[DueFile, ...], applied: bool) -> str:
    if not applied:
        return "past its date"
    return "still there: in use, or not to be deleted from here" if file in left else "removed"


def _values(file: DueFile, *, left: bool) -> dict[str, Any]:
    return {
        "kind": file.kind.value,
        "path": None if file.path is None else str(file.path),
        "run": None if file.run is None else str(file.run.path),
        "since": None if file.since is None else file.since.isoformat(timespec="seconds"),
        "left": left,
    }
