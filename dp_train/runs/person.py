"""Everything that is kept about one person, in one document (GDPR Art. 15); and what is overdue for those who left.

    about(url, store, key, person)      # events, receipts, today's answers, runs, bounds
    overdue(url, store, key, policy)    # runs of which an action was due by now

The document is for the person, and as private as they ask: the caller writes it with mode 0600 and nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dp_train.consent.decisions import Reason
from dp_train.consent.event_json import to_json
from dp_train.consent.events import EventState, Purpose, denies, renews
from dp_train.consent.impact import NOT_UNLEARNT, RunImpact, gone, judge
from dp_train.consent.policy import Action, WithdrawalPolicy
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.consent.store import ConsentStore
from dp_train.consent.withdrawal import receipts_of
from dp_train.privacy.ledger.budget import standing
from dp_train.runs.inventory import Inventory, MissingRun, PastRun, inventory, snapshot_now

_NO_DATE = datetime.min.replace(tzinfo=UTC)
TYPE = "dp_train person 1"
CONTENT = (
    "conversations are not kept by dp_train and are not in this file: they lie in the files of the corpus, which "
    "whoever answers this request has to search"
)
BOUND = (
    "epsilon and delta bound what the model of a run can tell about one person in it, whoever sees it; for all runs "
    "together the bound of the population holds, whichever of them the person was in"
)


def about(
    url: str, store: ConsentStore, key: PrincipalKey, person_id: str, *, uri: str | None = None
) -> dict[str, Any]:
    """Return all that store, ledger, run folders and model registry keep about a person, as plain JSON values.

    All linked ids of the person are looked up. An erased person has a date and nothing else, which is what is kept.

    Args:
      url: of the store. uri: MLflow store to ask instead of that of each run.

    Raises:
      StoreError: the chain is broken. CheckpointError: a list of people cannot be read.
    """
    return about_pseudonym(url, store, key, key.pseudonym(person_id), uri=uri)


def about_pseudonym(
    url: str, store: ConsentStore, key: PrincipalKey, pseudonym: str, *, uri: str | None = None
) -> dict[str, Any]:
    """Return `about` of a person who is given as their pseudonym."""
    ids = store.same_person(pseudonym)
    found = inventory(url, uri=uri, registry_for=ids)
    snapshot = snapshot_now(store, key)
    events = [event for each in sorted(ids) for event in store.events(pseudonym=each)]
    erased, held = store.tombstone(pseudonym), store.held()
    return {
        "type": TYPE,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "store": store.store_id,
        "pseudonyms": sorted(ids),
        "known": bool(events) or any(found.of_person(each) for each in ids),
        "erased_since": None if erased is None else erased.isoformat(),
        "held_since": min((held[each].isoformat() for each in ids if each in held), default=None),
        "events": [to_json(event) for event in events],
        "receipts": receipts_of(store, [event.record_id for event in events]),
        "answers_today": _answers(snapshot, ids),
        "runs": [_run(each, found) for each in found.runs if any(map(each.holds, ids))],
        "runs_not_found": [each.values() for each in found.missing_of(key.population_id)],
        "runs_without_a_list": sum(each.run.manifest is None and each.folder.run_id is not None for each in found.runs),
        "spent_by_all_runs": _spent(found, key.population_id),
        "explanations": [BOUND, NOT_UNLEARNT, CONTENT],
    }


def _answers(snapshot: ConsentSnapshot, ids: set[str]) -> dict[str, str]:
    """For each purpose, whether anything of the person may be used for it today, or why not; a no of one id counts."""
    answers = {}
    for purpose in Purpose:
        reasons = {snapshot.says(each, purpose) for each in ids}
        spoken = reasons - {Reason.NO_RECORD}  # an id without a record says nothing beside one that has some
        reasons = spoken or reasons
        answers[purpose.value] = " and ".join(sorted(reason.value for reason in reasons))
    return answers


def _run(each: PastRun, found: Inventory) -> dict[str, Any]:
    manifest, line = each.run.manifest, found.line(each.folder)
    assert manifest is not None
    return {
        "run": each.run.name,
        "purpose": manifest.purpose.value,
        "started": None if line is None else line.recorded_at,
        "finished": each.run.finished,
        "out_of_use": each.run.retired,
        "epsilon": each.run.epsilon,
        "delta": each.run.delta,
        "bounded_per_person": each.run.epsilon is not None,
        "keeps": list(each.run.keeps),
        "model_versions": list(each.run.versions),
    }


def _spent(found: Inventory, population: str) -> dict[str, Any]:
    stand = standing(found.book, population)
    return {
        "population": population,
        "epsilon": stand.spent if math.isfinite(stand.spent) and not stand.withheld else None,
        "budget_epsilon": None if stand.budget is None else stand.budget.epsilon,
        "runs": len(stand.lines),
        "runs_without_a_bound_per_person": stand.without_bound,
        "runs_whose_epsilon_is_withheld": stand.withheld,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """What was due by now. `runs`: its action still open; `missing`: runs whose people are unknown."""

    runs: tuple[RunImpact, ...]
    missing: tuple[MissingRun, ...]


def overdue(
    url: str, store: ConsentStore, key: PrincipalKey, policy: WithdrawalPolicy, *, now: datetime, uri: str | None = None
) -> Overdue:
    """Return the runs whose people left, whose model is still in use, and whose action was due before `now`.

    Retiring the model ends every action. The date counts from the first of the people who left: never too late, also
    where a no is repeated. Who agrees no more by no event of their own (an organisation's no, a rule, a changed notice)
    has no date, so theirs is the start of the run. Of people who were erased no date is kept beside the run; theirs is
    that of the earliest erasure in the store.

    Args:
      url: of the store. uri: MLflow store to ask instead of that of each run.
    """
    snapshot, found = snapshot_now(store, key), inventory(url, uri=uri)
    late = []
    for each in found.runs:
        manifest = each.run.manifest
        if manifest is None or each.run.retired or not each.run.keeps:
            continue
        left = gone(manifest, snapshot)
        if not left and not manifest.erased:
            continue
        line = found.line(each.folder)
        began = _NO_DATE if line is None else datetime.fromisoformat(line.recorded_at)
        dates = [_left_since(store, person, manifest.purpose, now) or began for person in left]
        since = min([*dates, *([_first_erasure(store, now)] if manifest.erased else [])])
        impact = judge(each.run, len(left) + manifest.erased, policy, since=since)
        if impact.action is not Action.NONE and impact.act_by is not None and impact.act_by <= now:
            late.append(impact)
    late.sort(key=lambda impact: (impact.act_by or now, impact.run.name))
    return Overdue(runs=tuple(late), missing=found.missing_of(key.population_id))


def _left_since(store: ConsentStore, person: str, purpose: Purpose, now: datetime) -> datetime | None:
    """When a person left a purpose: the first no that no grant has lifted since, or the end of their last grant.

    A lasting no is lifted by the person's own hand alone (`renews`); a hold that was decided about counts no more.
    """
    events = [event for each in store.same_person(person) for event in store.events(pseudonym=each)]
    events = sorted(
        (event for event in events if not event.purpose or purpose in event.purpose), key=lambda event: event.event_time
    )
    resolved = max((e.event_time for e in events if e.event_state is EventState.RESOLVED), default=_NO_DATE)
    since, lasting, ends = None, False, None
    for event in events:
        if event.event_state is EventState.HELD and event.event_time <= resolved:
            continue
        if denies(event):
            since, lasting = since or event.event_time, lasting or event.event_state.lasts
        elif event.event_state.grants and (not lasting or renews(event)):
            since, lasting, ends = None, False, event.expires_at
    return since or (ends if ends is not None and ends <= now else None)


def _first_erasure(store: ConsentStore, now: datetime) -> datetime:
    return min((datetime.fromtimestamp(since / 1e6, UTC) for since in store.tombstones().since.values()), default=now)


__all__ = ["Overdue", "about", "about_pseudonym", "overdue"]
