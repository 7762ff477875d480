"""What follows when a person leaves: models retired or tagged, cached tables and starting points deleted.

Each step may be repeated; a second call completes what the first one did not do.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dp_train.consent.impact import Impact, RunImpact
from dp_train.consent.policy import Action
from dp_train.privacy.tables import purge
from dp_train.runs.folder import read_config
from dp_train.runs.inventory import PastRun
from dp_train.store.database import sqlite_file

STARTING_POINTS = Path("runs/starting_points")
TABLES = Path("runs/units")
REASON = "people whose data it has learnt from withdrew their consent"


def act_on(impact: Impact, found: Sequence[PastRun], now: datetime) -> list[str]:
    """Retire models and tag registered versions as the policy asks; return what was done, in words."""
    by_name = {each.run.name: each for each in found}
    did = []
    for each in impact.runs:
        if each.action is Action.NONE:
            continue
        where = by_name[each.run.name]
        if each.action is Action.RETIRE and not each.run.retired:
            where.folder.retire(REASON, now)
            did.append(f"{each.run.name}: model retired")
        did += _mark(each, where)
    return did


def _mark(impact: RunImpact, where: PastRun) -> list[str]:
    if where.store is None or not where.versions:
        return []
    from dp_train.tracking.registry import ACT_BY, ACTION, mark, withdraw_aliases

    did = []
    for version in where.versions:
        # What an earlier withdrawal asked for is never softened, nor put off.
        before = version.tags.get(ACTION)
        actions = [impact.action, *([Action(before)] if before in {action.value for action in Action} else [])]
        action = max(actions, key=lambda action: action.severity)
        dates = [date for date in (version.tags.get(ACT_BY), _date(impact.act_by)) if date]
        mark(where.store, version, {ACTION: action.value, **({ACT_BY: min(dates)} if dates else {})})
        did.append(f"{version.label}: tagged {action.value}")
        if action is Action.RETIRE and version.aliases:
            withdraw_aliases(where.store, version)
            did.append(f"{version.label}: {', '.join(version.aliases)} no longer points at it")
    return did


def _everywhere(folders: set[Path], found: Sequence[PastRun], url: str) -> set[Path]:
    """Each folder from where runs may have begun: the working folder, the store's, and those above the runs'."""
    file = sqlite_file(url)
    bases = {Path.cwd(), *(above for each in found for above in each.folder.path.resolve().parents)}
    bases |= set() if file is None else {file.parent}
    return {(base / folder).resolve() for base in bases for folder in folders}


def purge_starting_points(found: Sequence[PastRun], url: str) -> list[str]:
    """Delete every cached starting point: none keeps a list of people; a run that needs one makes it anew."""
    gone = 0
    starts = [read_config(each.folder.config).get("start") or {} for each in found]
    caches = {STARTING_POINTS, *(Path(start["cache"]) for start in starts if start.get("cache"))}
    for cache in _everywhere(caches, found, url):
        for folder in cache.glob("*"):
            if (folder / "facts.json").is_file():
                shutil.rmtree(folder)
                gone += 1
    return [f"{gone} cached starting points, made from published text, deleted"] if gone else []


def table_folders(found: Sequence[PastRun], url: str) -> set[Path]:
    """Return every folder that may hold tables of tokenised rows."""
    corpora = [read_config(each.folder.config).get("corpus") or {} for each in found]
    folders = {TABLES, *(Path(corpus["tables"]) for corpus in corpora if corpus.get("tables"))}
    return _everywhere(folders, found, url)


def purge_tables(found: Sequence[PastRun], url: str) -> list[str]:
    """Delete every table of tokens: none keeps a list of people; a run that needs one makes it of who is left."""
    gone = sum(purge(folder) for folder in table_folders(found, url))
    return [f"{gone} cached tables of tokenised rows deleted"] if gone else []


def _date(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat(timespec="seconds")
