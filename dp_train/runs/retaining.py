"""Files of runs that are past the date that an organisation set: which they are, and their end.

found = due_files(url, rules, now=now)
remove(found)                          # after `retention.expire_records` wrote that it will be done
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dp_train.consent.events import Purpose
from dp_train.consent.retention import Kept, RetentionRules, read_rules
from dp_train.errors import CheckpointError
from dp_train.privacy.tables import tables_in
from dp_train.runs.config_paths import conf_folder
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.inventory import Inventory, MissingRun, PastRun, inventory
from dp_train.runs.leaving import table_folders

RULES = "retention.yaml"
SAMPLES = "samples*.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueFile:
    """A file or folder that is past its date.

    Attributes:
      path: None where it lies on a server. since: since when it is kept; None where that cannot be read.
      run: whose it is; None of a table, which is nobody's.
    """

    kind: Kept
    path: Path | None
    since: datetime | None
    run: RunFolder | None = None

    @property
    def name(self) -> str:
        """Where it lies, for people."""
        if self.path is None:
            return f"{self.kind.value} of {self.run.path if self.run else 'a run'}, on the tracking server"
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueFiles:
    """Files past their date, and runs whose folder is not found, so that it is not known what they keep."""

    files: tuple[DueFile, ...]
    missing: tuple[MissingRun, ...]


def rules_of(path: str | None) -> RetentionRules:
    """The rules of a file, else of conf/retention.yaml of the working folder, else the shipped ones."""
    own = Path("conf") / RULES
    return read_rules(path or (own if own.exists() else conf_folder() / RULES))


def due_files(url: str, rules: RetentionRules, *, now: datetime) -> DueFiles:
    """Find every file of the project's runs that is past its date; changes nothing.

    Raises:
      CheckpointError: a list of people cannot be read. StoreError: the store cannot.
    """
    there = inventory(url)
    files = [*_tables(there, url), *(file for each in there.runs for file in _of_run(each, there))]
    due = [(file, purposes) for file, purposes in files if rules.is_due(file.kind, purposes, file.since, now)]
    kinds = (Kept.CHECKPOINTS, Kept.SAMPLES)
    dated = any(rule.kind in kinds for rule in rules.rules)
    return DueFiles(files=tuple(file for file, _ in due), missing=there.missing if dated else ())


def remove(found: DueFiles) -> tuple[DueFile, ...]:
    """Delete files that are due; return those that are there still: in use, on a server, or not to be deleted."""
    return tuple(file for file in found.files if not _removed(file))


def _removed(file: DueFile) -> bool:
    if file.path is None:
        return False
    # A run that is under way needs its checkpoint; a table or a sample may go at any time.
    guarded = file.run is not None and file.kind is Kept.CHECKPOINTS
    try:
        with file.run.held() if guarded and file.run is not None else nullcontext():
            if file.path.is_dir():
                shutil.rmtree(file.path)
            else:
                file.path.unlink(missing_ok=True)
    except (OSError, CheckpointError):
        return False
    return True


_Found = tuple[DueFile, tuple[Purpose, ...]]


def _tables(there: Inventory, url: str) -> Iterator[_Found]:
    for folder in sorted(table_folders(there.runs, url)):
        for table in tables_in(folder):
            yield DueFile(kind=Kept.TABLES, path=table, since=_written(table)), ()


def _of_run(each: PastRun, there: Inventory) -> Iterator[_Found]:
    folder, manifest, line = each.folder, each.run.manifest, there.line(each.folder)
    purposes = () if manifest is None else (manifest.purpose,)
    since = _written(folder.config) if line is None else datetime.fromisoformat(line.recorded_at)
    if folder.checkpoint.is_dir():
        yield DueFile(kind=Kept.CHECKPOINTS, path=folder.checkpoint, since=since, run=folder), purposes
    for path in _samples(folder):
        yield DueFile(kind=Kept.SAMPLES, path=path, since=since, run=folder), purposes


def _samples(folder: RunFolder) -> Iterator[Path | None]:
    """Generated texts of a run in MLflow's artifacts; None where a server may keep some."""
    noted = folder.read_json("tracking.json")
    run_id, store = noted.get("run_id"), noted.get("store")
    if run_id is None:
        return
    if store is None:
        if (read_config(folder.config).get("evaluation") or {}).get("samples") != 0:
            yield None
        return
    artifacts = (folder.path / str(store)).resolve().parent / "mlartifacts"
    for place in (f"{run_id}/artifacts", f"*/{run_id}/artifacts"):  # MLflow puts the experiment above it, or not
        yield from sorted(artifacts.glob(f"{place}/{SAMPLES}"))


def _written(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        return None


__all__ = ["DueFile", "DueFiles", "due_files", "remove", "rules_of"]
