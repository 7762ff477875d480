"""Consent asked again before a run begins or goes on: who agreed and does not any more stops it, with the reason.

A run that was gated by the consent store notes in its folder what it asked (`consent.json`). Resuming asks the same
again, so that it goes on with the very units that it began with, whatever was granted since; and it asks as of now
what of them still passes. Nothing may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.manifest import read_manifest
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.consent.suppression import SMALL
from dp_train.conversations import Conversation
from dp_train.errors import CheckpointError, ConsentError
from dp_train.runs.folder import RunFolder
from dp_train.runs.inventory import refuse_if_someone_left, refuse_other_store
from dp_train.runs.populations import (
    Populations,
    as_of,
    asked,
    directory_of,
    snapshot_now,
    still_pass,
    stored_snapshot,
)
from dp_train.runs.project import key_path
from dp_train.runs.recipe import Recipe

NOTE = "consent.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a store takes back of what it once let through. `people` are pseudonyms, private."""

    people: frozenset[str]
    turns: int

    def __bool__(self) -> bool:
        return bool(self.people) or self.turns > 0


def refuse_if_changed(config: Recipe, gated: Populations) -> None:
    """Raise if anyone whose words passed the gate does not agree any more, as of now.

    What is prepared may wait: for a user who looks at it, or for the trials of a study before it.

    Raises:
      ConsentError: someone does not; who and how many is not said.
    """
    if not still_pass(config, gated, snapshot_now(config)):
        raise ConsentError(
            "consent changed since this run was prepared: people whose words it uses do not agree any more; prepare "
            "it anew, which leaves them out"
        )


def note_consent(folder: RunFolder, populations: Populations) -> None:
    """Write down what a run asked the store, once; nothing where no store was asked."""
    decided = populations.decided
    if decided.upto is not None and not folder.read_json(NOTE):
        asked_ = {"as_of": decided.as_of, "known_at": decided.known_at}
        times = {name: moment.isoformat() for name, moment in asked_.items()}
        head = {"head": decided.head, "store_at": decided.store}
        folder.write_json(NOTE, {"root": decided.root, "events": decided.upto, **times, **head})


def snapshot_to_resume(folder: RunFolder, config: Recipe) -> ConsentSnapshot | None:
    """The decisions that a run began with, once everyone in it was asked again; None where no store was asked.

    Raises:
      ConsentError: someone in it does not agree any more, by the store that it asked or by withdrawals since.
      StoreError: it began with another store than the one that is asked here.
    """
    refuse_other_store(folder, config)
    found = taken_up(folder, config)
    if found is None:  # no store was asked when it began; one may have heard of a withdrawal all the same
        refuse_if_someone_left(folder, config)
    return found


def taken_up(folder: RunFolder, config: Recipe) -> ConsentSnapshot | None:
    """The decisions that a run began with, once nobody who is in it took theirs back.

    None where no store was asked, or the run ended before it asked.

    Raises:
      ConsentError: a person did, or was erased; how many is told from ten on. Or the store is another one.
      CheckpointError: the note or the list of people of the run is damaged.
    """
    note = folder.read_json(NOTE)
    if not config.consent.store or not note:
        return None
    try:
        began, known = datetime.fromisoformat(note["as_of"]), datetime.fromisoformat(note["known_at"])
        upto = int(note["events"])
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"run folder: {folder.path / NOTE} is damaged; restore it, or start a new run") from None
    before = stored_snapshot(config, as_of=began, known_at=known, upto=upto)
    now = stored_snapshot(config, as_of=max(as_of(config), datetime.now(UTC)))
    manifest = read_manifest(folder.path)
    found = change(config, before, now, frozenset(manifest.people) if manifest else frozenset())
    erased = manifest.erased if manifest else 0
    if found or erased:
        count = len(found.people) + erased
        people = f"{count} people" if count >= SMALL else f"people (fewer than {SMALL}, how many is not told)"
        raise ConsentError(
            f"consent changed since this run began: {people} whose words it uses do not agree any more; "
            "start a new run; what the old one spent stays spent"
        )
    return before


def change(config: Recipe, before: ConsentSnapshot, now: ConsentSnapshot, people: frozenset[str]) -> Change:
    """What of the corpora passed `before` and does not pass `now`.

    Args:
      people: pseudonyms of who was in the run; who has no part in what passes any more, an erased person say, counts.
    """
    key, directory = PrincipalKey.load(key_path(config.consent.key)), directory_of(config)
    turns = 0
    present: set[str] = set()
    gone: set[str] = set()
    for corpus, policy in asked(config):
        first = gate(corpus, before, policy, directory=directory)
        again = gate(first, now, policy, directory=directory)
        for conversation in first.conversations():
            present |= conversation.people
            gone |= _denying(conversation, now, policy)
        turns += again.report.turns_removed
    missing = people - {key.pseudonym(person) for person in present} if people else set()
    return Change(people=frozenset(missing | {key.pseudonym(person) for person in gone}), turns=turns)


def _denying(conversation: Conversation, now: ConsentSnapshot, policy: ConsentPolicy) -> set[str]:
    asked_ = {(turn.person_id, turn.kind) for turn in conversation.turns}
    when, where = conversation.created_at, conversation.org_id
    return {one for one, kind in asked_ if not now.decide(one, policy.purpose, kind, when, where).allowed}
