"""`dp-train consent …`: status, snapshot and verify of the consent store."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from dp_train.cli.consent_import import config_of, print_values
from dp_train.cli.consent_store import open_store
from dp_train.cli.show import console, table
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.proofs import prove, verify_proof
from dp_train.consent.signing import read_signed
from dp_train.consent.signing_keys import verified_receipt
from dp_train.consent.snapshot import readable
from dp_train.consent.store import ConsentStore
from dp_train.consent.suppression import SMALL
from dp_train.errors import ConfigError, ConsentError, StoreError
from dp_train.runs.populations import as_of, stored_snapshot
from dp_train.runs.recipe import Recipe


def run(options: Namespace) -> int:
    """Do what the second word says."""
    if options.does == "verify" and (options.receipt or options.public_key):
        return _verify_receipt(options)  # on a machine that has no store
    if options.does == "verify" and options.proof:
        return _verify_proof(options)
    if options.does == "snapshot":
        return _snapshot(config_of(options, options.overrides), options)
    store = open_store(options)
    try:
        verbs = {"status": _status, "verify": _verify}
        return verbs[options.does](store, options)
    finally:
        store.database.close()


def _status(store: ConsentStore, options: Namespace) -> int:
    head = store.head()
    if options.person is not None:
        pseudonym = given_key(options).pseudonym(options.person)
        rows: list[dict[str, Any]] = [
            {
                "event_time": event.event_time.isoformat(),
                "state": event.event_state.value,
                "purposes": sorted(purpose.value for purpose in event.purpose),
                "content_kinds": sorted(kind.value for kind in event.content_kind),
                "role": event.entity_role.value,
            }
            for event in store.events(pseudonym=pseudonym)
        ]
        if options.json:
            print(json.dumps(rows, indent=2))
        elif rows:
            lines = [
                (r["event_time"], r["state"], r["role"], ", ".join(r["purposes"]), ", ".join(r["content_kinds"]))
                for r in rows
            ]
            console().print(table(("when", "state", "role", "purposes", "content"), lines))
        else:
            print("no events: a person without events is denied")
        return 0
    counts: Counter[tuple[str, str]] = Counter()
    for terms, count in store.counts():
        for purpose in terms["purpose"] or ["all"]:
            counts[terms["event_state"], purpose] += count
    shown: list[dict[str, Any]] = [
        {"state": state, "purpose": purpose, "events": count if count >= SMALL else None}
        for (state, purpose), count in sorted(counts.items())
    ]
    last = store.last_stored()
    taken = None if last is None else last.isoformat(timespec="seconds")
    held, unread = len(store.held()), store.set_aside()
    if options.json:
        values = {
            "events": head.seq,
            "head": head.event_hash,
            "last_event_taken": taken,
            "people_held": held,
            "rows_unread": unread,
            "counts": shown,
        }
        print(json.dumps(values, indent=2))
        return 0
    out = console()
    summary = [(str(r["state"]), str(r["purpose"]), _shown(r["events"])) for r in shown]
    out.print(table(("state", "purpose", "events"), summary))
    out.print(
        f"{head.seq:,} events, the last taken {taken or 'never'}, head of the chain {head.event_hash}", soft_wrap=True
    )
    if held:
        out.print(f"{held:,} people are held: a row about them could not be read, so they are denied; consent resolve")
    if unread:
        out.print(f"{unread:,} rows of imports are unread: whose they are nobody knows, and each may be a no")
    return 0


def _snapshot(config: Recipe, options: Namespace) -> int:
    """That of a run with the same words, as of now or of another time."""
    made = stored_snapshot(
        config,
        as_of=as_of(config) if options.as_of is None else _time(options.as_of, "--as-of"),
        known_at=None if options.known_at is None else _time(options.known_at, "--known-at"),
        upto=options.upto,
    )
    if options.prove is not None:
        pseudonym = PrincipalKey.load(config.consent.key).pseudonym(options.prove)
        try:
            with os.fdopen(os.open(options.proof, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(prove(made, pseudonym) + b"\n")
        except OSError as error:
            raise ConfigError(
                f"consent snapshot: --proof={options.proof}: {error.strerror}; choose a new file"
            ) from error
    values = {
        "proof": None if options.prove is None else options.proof,
        "root": made.root,
        "as_of": made.as_of.isoformat(),
        "known_at": made.known_at.isoformat(),
        "upto": made.upto,
    }
    return print_values(options, values, title="snapshot")


def _verify(store: ConsentStore, options: Namespace) -> int:
    found = store.verify(expected_head=options.head)
    if found.broken is not None:
        raise StoreError(
            f"consent chain: broken at event {found.broken.seq}: {found.broken.reason}; "
            "restore the store from a backup that verifies"
        )
    return print_values(options, {"events": found.rows, "head": found.head}, title="the chain verifies")


def _verify_receipt(options: Namespace) -> int:
    if not (options.receipt and options.public_key):
        raise ConfigError("consent verify: expected --receipt FILE and --public-key FILE together")
    try:
        public = Path(options.public_key).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"consent verify: {options.public_key} cannot be read; expected signing.pub") from error
    statement = verified_receipt(read_signed(Path(options.receipt)), public, Path(options.public_key).parent)
    shown = {
        name: ", ".join(value) if isinstance(value, list) else value
        for name, value in statement.items()
        if not isinstance(value, dict)
    }
    event = statement.get("event", {})
    chain = {"event": event.get("seq"), "event_hash": event.get("hash")} if isinstance(event, dict) else {}
    return print_values(options, {**shown, **chain}, title="the signature holds")


def _verify_proof(options: Namespace) -> int:
    """Check a proof with the files alone."""
    try:
        found = verify_proof(Path(options.proof).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"consent verify: --proof={options.proof}: {error.strerror}; expected a proof file"
        ) from error
    if options.root is not None and options.root != found.root:
        raise ConsentError("consent proof: is for another root than --root; ask for a proof of that snapshot")
    if options.person is not None and given_key(options).pseudonym(options.person) != found.pseudonym:
        raise ConsentError("consent proof: is about another person than --person; ask for a proof of that person")
    decisions = [f"{purpose}: {reason} ({kinds})" for purpose, kinds, reason in readable(found.cells)]
    values: dict[str, Any] = {
        "root": found.root,
        **({"root_is_that_given": True} if options.root is not None else {}),  # what was not asked for is not told
        **({"person_is_that_given": True} if options.person is not None else {}),
        "in_snapshot": found.included,
        "decisions": decisions if options.json else "\n".join(decisions) or None,
    }
    return print_values(options, values, title="the proof holds")


def given_key(options: Namespace) -> PrincipalKey:
    """Load the key of `--key`, which the pseudonyms were made under."""
    if options.key is None:
        raise ConfigError("consent: no key was given; give --key FILE, the key that the events were made under")
    return PrincipalKey.load(options.key)


def _time(text: str, option: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        value = datetime.min
    if value.tzinfo is None:
        raise ConfigError(f"consent: {option}={text}; expected a time with an offset: 2025-01-31T00:00:00+00:00")
    return value


def _shown(count: object) -> str:
    return f"fewer than {SMALL}" if count is None else f"{count:,}"
