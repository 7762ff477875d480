"""What there is of all runs of a project: folders, ledger lines, model versions, and who is in them.

Which runs there are is read from the store: its ledger, and the rows that say where each run's folder is. What is found
below the working folder is added. A run whose folder is nowhere is said, for who is in it cannot be known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dp_train.consent.impact import RunKept, gone
from dp_train.consent.manifest import Manifest, read_manifest
from dp_train.consent.policy import WithdrawalPolicy, read_policy
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.consent.store import ConsentStore
from dp_train.errors import ConsentError, ModelError, StoreError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import Book, Line
from dp_train.runs.config_paths import conf_folder
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.heads import check_start
from dp_train.runs.project import NOTE, key_path, store_url
from dp_train.runs.recipe import Recipe
from dp_train.store.database import Database, absolute_url, shown, sqlite_file
from dp_train.store.run_folders import places

if TYPE_CHECKING:
    from dp_train.tracking.registry import ModelVersion
    from dp_train.tracking.store import TrackingStore

POLICY = "withdrawal.yaml"


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run folder, what is to be said of it, and its registered versions with the store that has them."""

    folder: RunFolder
    run: RunKept
    store: TrackingStore | None
    versions: tuple[ModelVersion, ...]

    @property
    def learnt(self) -> bool:
        """Return whether it has weights that may have learnt of people, or had."""
        return self.run.finished or bool(self.run.keeps) or bool(self.versions)

    def holds(self, pseudonym: str) -> bool:
        """Return whether a person is in it."""
        return self.run.manifest is not None and self.run.manifest.holds(pseudonym)


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingRun:
    """A run that the store knows of and whose folder is nowhere: its people and its model are unknown.

    Attributes:
      run: its id, that of its line in the ledger where it has one. label: what people call it.
      population: population_id of its people. folder: where it was; None where no row says it.
      versions: registered model versions that say they came from it.
    """

    run: str
    label: str
    population: str
    folder: Path | None
    versions: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        folder = None if self.folder is None else str(self.folder)
        return {"run": self.run, "label": self.label, "folder": folder, "model_versions": list(self.versions)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Every run of a project. `missing` are those whose folder is nowhere; `book` is the ledger.

    `studies` are folders of trade-offs, whose trials are among the runs.
    """

    runs: tuple[PastRun, ...]
    missing: tuple[MissingRun, ...]
    book: Book
    studies: tuple[RunFolder, ...] = ()

    def of_person(self, pseudonym: str) -> tuple[PastRun, ...]:
        """The runs that a person is in; only as complete as `missing` is empty."""
        return tuple(each for each in self.runs if each.holds(pseudonym))

    def missing_of(self, population: str) -> tuple[MissingRun, ...]:
        """Runs of a population in which a person of it may be, and it cannot be known."""
        return tuple(each for each in self.missing if each.population == population)

    def line(self, folder: RunFolder) -> Line | None:
        """The line of a run in the ledger."""
        return None if folder.run_id is None else self.book.lines.get(folder.run_id)


def inventory(url: str | None = None, *, uri: str | None = None, registry_for: Collection[str] = ()) -> Inventory:
    """Every run that the store at `url` (the project's) knows of, and those below the working folder.

    Args:
      uri: MLflow store to ask instead of that of each run.
      registry_for: pseudonyms of one person; MLflow's registry is asked about the runs that they are or may be in.

    Raises:
      CheckpointError: a list of people cannot be read. StoreError, TrackingError: a store cannot.
    """
    address = absolute_url(url, Path.cwd())
    book = _book(address)
    known = places(address)
    folders = {folder.path.resolve(): folder for folder in RunFolder.all()}
    missing = []
    for place in known:
        folder = RunFolder.at(place)
        if folder is not None:
            folders.setdefault(folder.path.resolve(), folder)
        else:
            missing.append(
                MissingRun(run=place.run, label=place.label, population=place.population, folder=place.folder)
            )
    studies = tuple(folder for folder in RunFolder.all(studies=True) if folder.is_study)
    runs = [kept(folder, book, uri, registry=False) for folder in folders.values()]
    there = {place.run for place in known} | {each.folder.run_id for each in runs}
    there |= {each.run.manifest.run for each in runs if each.run.manifest is not None}
    missing += [
        MissingRun(run=line.reservation, label=line.facts.run, population=line.population, folder=None)
        for line in book.lines.values()
        if line.reservation not in there and line.begun
    ]
    # A folder that was taken away before anything was drawn held no model.
    missing = [each for each in missing if each.run not in book.lines or book.lines[each.run].begun]
    if registry_for:
        runs = [
            kept(one.folder, book, uri, registry=True) if any(map(one.holds, registry_for)) else one for one in runs
        ]
        missing = [_with_versions(each, uri) for each in missing]
    return Inventory(runs=tuple(runs), missing=tuple(missing), book=book, studies=studies)


def _book(url: str) -> Book:
    ledger = Ledger.peek(url)
    if ledger is None:
        return Book()
    try:
        return ledger.book()
    finally:
        ledger.close()


def policy_of(path: str | None) -> WithdrawalPolicy:
    """The policy of a file, else of conf/withdrawal.yaml of the working folder, else the shipped one."""
    own = Path("conf") / POLICY
    return read_policy(path or (own if own.exists() else conf_folder() / POLICY))


def kept(folder: RunFolder, book: Book | None, uri: str | None, *, registry: bool) -> PastRun:
    """What there is of one run; with `registry`, MLflow is asked for model versions as well.

    Raises:
      CheckpointError: its list of people cannot be read. TrackingError: MLflow's store cannot.
    """
    manifest = read_manifest(folder.path)
    result = folder.read_json("result.json")
    store, found = _versions(folder, uri) if registry else (None, ())
    epsilon, delta = _bound(manifest, result, book)
    run = RunKept(
        name=str(folder.path),
        manifest=manifest,
        epsilon=epsilon,
        delta=delta,
        finished=result.get("status") == "FINISHED",
        retired=is_retired(folder),
        keeps=tuple(path.name for path in (folder.checkpoint, folder.model) if path.is_dir()),
        versions=tuple(version.label for version in found),
    )
    return PastRun(folder, run, store, found)


def is_retired(folder: RunFolder) -> bool:
    """Whether the model of a run was taken out of use, or may have been."""
    try:
        folder.refuse_retired()
    except ModelError:
        return True
    return False


def _versions(folder: RunFolder, uri: str | None) -> tuple[TrackingStore | None, tuple[ModelVersion, ...]]:
    noted = folder.read_json("tracking.json")
    run_id = noted.get("run_id")
    if run_id is None:
        return None, ()
    from dp_train.tracking.registry import versions

    # Relative, so that a project that moved is still recorded in its own store.
    file = (folder.path / noted["store"]).resolve() if "store" in noted else None
    found = f"sqlite:///{file}" if file is not None and file.exists() else tracking_uri(folder)
    store = _tracking_store(uri or found)
    return (None, ()) if store is None else (store, versions(store, str(run_id)))


def _with_versions(each: MissingRun, uri: str | None) -> MissingRun:
    """The same with the versions that carry its id; the folder that would say where it was recorded is gone."""
    from dp_train.tracking.registry import versions_of_reservation

    store = _tracking_store(uri)
    labels = () if store is None else tuple(found.label for found in versions_of_reservation(store, each.run))
    return MissingRun(run=each.run, label=each.label, population=each.population, folder=each.folder, versions=labels)


def _tracking_store(uri: str | None) -> TrackingStore | None:
    """MLflow's store, where there is one; looking makes none."""
    from dp_train.tracking.connection import absolute_uri, sqlite_path
    from dp_train.tracking.store import TrackingStore

    address = absolute_uri(uri, Path.cwd())
    path = sqlite_path(address)
    return None if path is not None and not path.exists() else TrackingStore.open(address)


def tracking_uri(folder: RunFolder) -> str | None:
    """Where the run was recorded, by its configuration."""
    found = read_config(folder.config).get("tracking")
    uri = found.get("uri") if isinstance(found, dict) else None
    return str(uri) if uri else None


def _bound(manifest: Manifest | None, result: dict[str, object], book: Book | None) -> tuple[float | None, float]:
    """(ε, δ) of a run per person; ε is None where nothing is bounded, or it is withheld."""
    plan = result.get("plan")
    plan = plan if isinstance(plan, dict) else {}
    delta = float(plan.get("delta") or 0.0)
    if result.get("withheld") or plan.get("unit", "user") != "user":
        return None, delta
    line = book.lines.get(manifest.run) if book is not None and manifest is not None else None
    if line is not None:
        return line.promised, line.delta
    epsilon = result.get("epsilon")
    return (float(epsilon) if isinstance(epsilon, int | float) else None), delta


@contextmanager
def consent_store(url: str) -> Iterator[ConsentStore | None]:
    """The consent store at a URL; None where there is no database yet, and none is made."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        yield None
        return
    database = Database(url)
    try:
        check_start(database)
        yield ConsentStore(database)
    finally:
        database.close()


def gone_by_store(manifest: Manifest, url: str, key: PrincipalKey) -> set[str]:
    """Who of a run does not agree any more, by what the consent store holds now; who was erased is not in it."""
    with consent_store(url) as store:
        return set() if store is None else gone(manifest, snapshot_now(store, key))


def snapshot_now(store: ConsentStore, key: PrincipalKey) -> ConsentSnapshot:
    """Every decision of the store as of now."""
    return store.snapshot(as_of=datetime.now(UTC), key=key)


def refuse_other_store(folder: RunFolder, config: Recipe) -> None:
    """Raise unless the store that is asked about a run here is the one that it began with, wherever that lies now.

    Another store, or none, knows of no withdrawal from it and of nothing that it spent. A project that was moved with
    its store is the same: the store has a row of the run.

    Raises:
      StoreError: it is another one, or is not there.
    """
    began, url = folder.read_json(NOTE).get("store"), store_url(config)
    if not isinstance(began, str):
        return  # the run never came to its people
    file = sqlite_file(url)
    is_there = file is None or file.exists()
    if is_there and (began == shown(url) or any(place.run == folder.run_id for place in places(url))):
        return
    raise StoreError(
        f"run {folder.path}: began with the store {began}, and {shown(url)} {'is another' if is_there else 'is none'}: "
        "neither who withdrew nor what was spent can be known here; go to the folder of its project, or give that "
        "store as DP_TRAIN_STORE"
    )


def refuse_if_someone_left(folder: RunFolder, config: Recipe) -> None:
    """Raise if someone whose data is in an unfinished run does not agree any more, by the consent store.

    Raises:
      ConsentError: someone does not; how many is not said. StoreError: the store that the run began with is not there.
    """
    manifest = read_manifest(folder.path)
    if manifest is None:
        return
    refuse_other_store(folder, config)
    if manifest.erased or gone_by_store(manifest, store_url(config), PrincipalKey.load(key_path(config.consent.key))):
        raise ConsentError(
            f"run {folder.path}: a person whose data is in it does not agree to {manifest.purpose.value} any more "
            f"(withdrawn, expired or erased), so it may not go on; dp-train train --from-run {folder.path} starts one "
            "without them"
        )


def missing_lines(missing: Sequence[MissingRun]) -> list[str]:
    """What is said of runs whose folder is nowhere; empty where there is none."""
    if not missing:
        return []
    count = f"{len(missing)} run{'s' if len(missing) > 1 else ''} of these people: folder not found, model unknown"
    lines = [f"{count}; look for it, or dp-train ls runs in the folder above it, and repeat the command"]
    for each in missing:
        where = "" if each.folder is None else f", was in {each.folder}"
        versions = f"; registered from it: {', '.join(each.versions)}" if each.versions else ""
        lines.append(f"  {each.run} ({each.label}{where}){versions}")
    return lines
