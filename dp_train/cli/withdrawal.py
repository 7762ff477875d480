"""`dp-train consent withdraw | impact | erase`: a person leaves, and what follows.

1. the event and its receipt go into the store, both or neither;
2. the impact is worked out from run folders, ledger and model registry;
3. tags on model versions, `model_status.json`, caches. All of it may be repeated: the same command completes it.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dp_train.cli.consent_people import bind_proven, officer_of, open_key, signing_key
from dp_train.cli.consent_store import open_store
from dp_train.cli.withdrawal_answer import tell
from dp_train.consent.events import Purpose
from dp_train.consent.impact import assess
from dp_train.consent.manifest import forget
from dp_train.consent.near import near_ids
from dp_train.consent.principals import normalised_id
from dp_train.consent.signing import SigningKey
from dp_train.consent.store import ConsentStore
from dp_train.consent.withdrawal import Withdrawal, erase, withdraw
from dp_train.errors import ConfigError, ConsentError
from dp_train.runs.inventory import inventory, policy_of, snapshot_now
from dp_train.runs.leaving import act_on, purge_starting_points, purge_tables
from dp_train.runs.project import key_path
from dp_train.store.heads import keep_heads

RUN_NOT_FOUND = 11
"""Exit code: all was done, and a run of these people, whose folder is not found, may hold the person."""
UNKNOWN = "nobody of this id is known here yet: it is kept as a standing objection, and no later grant of a sync counts"
NEAR = "; an id that is known differs by one letter: is this one spelt right?"
OWN_FILES = (
    "take them out of your own files of conversations and events, exports, proofs and backups: nothing here knows "
    "them any more, so a run from such a file would take them for a person who agrees"
)
SAMPLES = (
    "they had agreed to publication: samples and starting points keep no list of people; where their conversations "
    "were in an evaluation corpus, delete samples.json of its runs in MLflow"
)


def run(options: Namespace) -> int:
    """Do what the second word says."""
    policy = policy_of(options.policy)
    at = _moment(getattr(options, "at", None))
    asked = options.does == "impact" or options.dry_run
    store = open_store(options, makes=not asked)
    database, url = store.database, store.database.url
    try:
        key = open_key(store, key_path(options.key), make=not asked)
        pseudonym = key.pseudonym(options.person)
        ids = store.same_person(pseudonym)
        runs_ = inventory(url, uri=options.uri, registry_for=ids)
        # A run that never began has a folder and no list of people: it learnt of nobody.
        found = [each for each in runs_.runs if each.run.manifest is not None or each.learnt]
        book, missing = runs_.book, runs_.missing_of(key.population_id)
        known = store.is_linked(pseudonym) or any(runs_.of_person(one) for one in ids) or missing
        if not known:
            if options.does == "impact":
                raise ConsentError(
                    "consent impact: nobody of this id is in the store or in a run here; expected a person's id "
                    "as the corpus has it, and the key and the folder of their runs"
                )
            near = store.known({key.pseudonym(other) for other in near_ids(normalised_id(options.person))})
            print(f"{UNKNOWN}{NEAR if near else ''}", file=sys.stderr)
        published = _agreed_to_publish(store, pseudonym)
        if not asked and options.receipt is not None and Path(options.receipt).exists():
            raise ConfigError(f"consent {options.does}: --receipt {options.receipt} exists already; choose a new file")
        if not asked:
            bind_proven(store, key, pseudonym)
        done = None if asked else _leave(store, pseudonym, options, key=signing_key(options), at=at)
        since = at if done is None else done.at
        runs = [each.run for each in found]
        impact = assess(runs, pseudonym, snapshot_now(store, key), policy, purposes=_purposes(options), since=since)
        did = [] if asked else act_on(impact, found, datetime.now(UTC))
        if not asked:
            did += purge_tables(found, url)
        if not asked and published and Purpose.PUBLISH in _purposes(options):
            did += purge_starting_points(found, url)
        if options.does == "erase" and not asked:
            lists = sum(max(forget(each.folder.path, one) for one in ids) for each in found)
            did.append(f"taken out of the lists of people of {lists} runs")
        if published and Purpose.PUBLISH in _purposes(options):
            did.append(SAMPLES)
        if options.does == "erase" and not asked:
            did.append(OWN_FILES)
        keep_heads(database)
        if done is not None and options.receipt is not None:
            _write_receipt(Path(options.receipt), done)
        tell(options, impact, book, key.population_id, done, did, missing)
    finally:
        database.close()
    return RUN_NOT_FOUND if missing else 0


def _leave(
    store: ConsentStore, pseudonym: str, options: Namespace, *, key: SigningKey, at: datetime
) -> Withdrawal | None:
    policy = policy_of(options.policy)
    words: dict[str, Any] = {
        "at": at,
        "method": options.method,
        "key": key,
        "policy": policy,
        "by": officer_of(options),
    }
    if options.does == "erase":
        return erase(store, pseudonym, **words)
    return withdraw(store, pseudonym, purposes=frozenset(Purpose(name) for name in options.purpose or ()), **words)


def _write_receipt(path: Path, done: Withdrawal) -> None:
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(json.dumps(done.receipt, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ConfigError(
            f"consent: it is stored; --receipt {path}: {error.strerror}; repeat the command with a new file"
        ) from error


def _agreed_to_publish(store: ConsentStore, pseudonym: str) -> bool:
    events = store.events(pseudonym=pseudonym)
    return any(event.event_state.grants and Purpose.PUBLISH in event.purpose for event in events)


def _purposes(options: Namespace) -> frozenset[Purpose]:
    return frozenset(Purpose(name) for name in getattr(options, "purpose", None) or ()) or frozenset(Purpose)


def _moment(text: str | None) -> datetime:
    now = datetime.now(UTC)
    try:
        at = now if text is None else datetime.fromisoformat(text)
    except ValueError:
        at = datetime.min
    if at.tzinfo is None or at > now:
        raise ConfigError(f"consent: --at={text}; expected a time with an offset that is not to come")
    return at
