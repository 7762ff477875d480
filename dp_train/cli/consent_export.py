"""`dp-train consent export | notice | overdue`: what an officer hands out, keeps and has still to do."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from dp_train.cli.consent import given_key
from dp_train.cli.consent_store import open_store
from dp_train.cli.show import console, table
from dp_train.consent.event_json import write_events
from dp_train.consent.kantara import read_controller, receipt_of
from dp_train.consent.notices import cited, keep, text_of
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.store import ConsentStore
from dp_train.consent.tables import audit_parts
from dp_train.consent.tombstones import tombstones_out
from dp_train.errors import ConfigError, DataError
from dp_train.runs.heads import check_start
from dp_train.runs.inventory import missing_lines, policy_of
from dp_train.runs.person import about, overdue
from dp_train.runs.project import key_path
from dp_train.store.database import absolute_url

OVERDUE = 12
"""Exit code: an action that a policy asked for was due by now, or a run of these people is not found."""


def run(options: Namespace) -> int:
    """Do what the second word says."""
    store = open_store(options, makes=options.does == "notice" and options.file is not None)
    try:
        if options.does == "overdue":
            check_start(store.database)  # an older copy knows less of who left
        return {"export": _export, "notice": _notice, "overdue": _overdue}[options.does](store, options)
    finally:
        store.database.close()


def _export(store: ConsentStore, options: Namespace) -> int:
    target = Path(options.file)
    if target.exists():
        raise ConfigError(f"consent export: {target} exists already; choose a new file")
    if options.receipts is not None:
        return _export_receipts(store, options, target)
    if options.person is not None:
        return _export_person(store, options, target)
    if not options.audit:
        write_events(chain(store.events(), tombstones_out(store)), target)
        print(f"wrote {target}: events under pseudonyms, to be imported elsewhere with the same key")
        return 0
    try:
        with target.open("x", encoding="utf-8") as out:
            for link, _ in store.links():
                own, terms = audit_parts(link.body)
                line: dict[str, Any] = {
                    "seq": link.seq,
                    "prev_hash": link.prev_hash,
                    "event_hash": link.row_hash,
                    "event": own,
                    "terms": terms,
                }
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ConfigError(f"consent export: {target}: {error.strerror}; choose a folder that can be written") from error
    print(f"wrote {target}: the chain as it stands, without pseudonyms")
    return 0


def _export_receipts(store: ConsentStore, options: Namespace, target: Path) -> int:
    controller = read_controller(options.receipts)
    pseudonym = None if options.person is None else given_key(options).pseudonym(options.person)
    made = (receipt_of(event, controller) for event in store.events(pseudonym=pseudonym))
    lines = (json.dumps(receipt, ensure_ascii=False) for receipt in made if receipt is not None)
    written = _write_private(target, lines)
    print(f"wrote {target}: {written} receipts of consent; what was refused or withdrawn has no form in them")
    return 0


def _export_person(store: ConsentStore, options: Namespace, target: Path) -> int:
    """Everything about one person, for the person."""
    found = about(
        absolute_url(options.store, Path.cwd()),
        store,
        PrincipalKey.load(key_path(options.key or "runs/principal.key")),
        options.person,
        uri=options.uri,
    )
    if not (found["known"] or found["erased_since"]):
        raise ConfigError(
            "consent export: --person: no event and no run of this id is here; expected the id as the corpus has it, "
            "the key of the store, and the folder of its runs"
        )
    _write_private(target, [json.dumps(found, indent=2, ensure_ascii=False)])
    events, runs = len(found["events"]), len(found["runs"])
    counted = f"{events} event{'' if events == 1 else 's'}, {runs} run{'' if runs == 1 else 's'} with their bounds"
    print(f"wrote {target}: {counted}; hand it to the person alone")
    if found["runs_not_found"]:
        print(f"{len(found['runs_not_found'])} runs of these people are not found: the file says so")
    return 0


def _write_private(target: Path, lines: Iterable[str]) -> int:
    """Write a new file that only its owner reads, line by line; return how many."""
    written = 0
    try:
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            for line in lines:
                out.write(f"{line}\n")
                written += 1
    except OSError as error:
        raise ConfigError(f"consent export: {target}: {error.strerror}; choose a folder that can be written") from error
    return written


def _notice(store: ConsentStore, options: Namespace) -> int:
    """Keep a text, print one, or list those that events name."""
    if options.file is not None:
        try:
            text = Path(options.file).read_bytes()
        except OSError as error:
            raise DataError(f"consent notice: {options.file}: {error.strerror}; expected the file of a text") from error
        digest = keep(store.database, text)
        events = sum(each.events for each in cited(store) if each.sha256 == digest)
        print(f"kept {digest}: {events:,} events name it")
        return 0
    if options.sha256 is not None:
        found = text_of(store.database, options.sha256)
        if found is None:
            raise DataError(
                f"consent notice: --sha256={options.sha256[:64]} is not kept; dp-train consent notice FILE keeps it"
            )
        print(found, end="" if found.endswith("\n") else "\n")
        return 0
    named = cited(store)
    if options.json:
        fields = ("notice_id", "version", "sha256", "events", "kept")
        print(json.dumps([{name: getattr(each, name) for name in fields} for each in named], indent=2))
        return 0
    rows = [
        (each.notice_id, str(each.version), each.sha256 or "no hash", f"{each.events:,}", "yes" if each.kept else "no")
        for each in named
    ]
    console().print(table(("notice", "version", "sha256", "events", "text kept"), rows))
    return 0


def _overdue(store: ConsentStore, options: Namespace) -> int:
    """List what was due by now; 12 where there is any."""
    found = overdue(
        absolute_url(options.store, Path.cwd()),
        store,
        PrincipalKey.load(key_path(options.key)),
        policy_of(options.policy),
        now=datetime.now(UTC),
        uri=options.uri,
    )
    if options.json:
        values = {"runs": [each.values() for each in found.runs], "runs_not_found": [m.values() for m in found.missing]}
        print(json.dumps(values, indent=2))
    else:
        out = console()
        rows = [
            (each.run.name, each.action.value.replace("_", " "), f"{each.act_by:%Y-%m-%d}", ", ".join(each.because))
            for each in found.runs
        ]
        out.print(table(("run", "action", "was due", "because"), rows) if rows else "nothing is overdue")
        for line in missing_lines(found.missing):
            out.print(line, markup=False)
    return OVERDUE if found.runs or found.missing else 0
