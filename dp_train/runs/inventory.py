"""What is kept of runs and who is in them: run folders, their ledger lines and the model versions that came of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dp_train.consent.impact import RunKept, gone
from dp_train.consent.manifest import Manifest, read_manifest
from dp_train.consent.policy import WithdrawalPolicy, read_policy
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.consent.store import ConsentStore
from dp_train.errors import ConsentError, ModelError
from dp_train.privacy.ledger.lines import Book
from dp_train.runs.config_paths import conf_folder
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.heads import check_start
from dp_train.runs.recipe import Recipe
from dp_train.runs.reservation import store_url
from dp_train.store.database import Database

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
    run_id = folder.read_json("tracking.json").get("run_id")
    if run_id is None:
        return None, ()
    from dp_train.tracking.connection import absolute_uri, sqlite_path
    from dp_train.tracking.registry import versions
    from dp_train.tracking.store import TrackingStore

    address = absolute_uri(uri or tracking_uri(folder), Path.cwd())
    path = sqlite_path(address)
    if path is not None and not path.exists():  # looking makes none
        return None, ()
    store = TrackingStore.open(address)
    return store, versions(store, str(run_id))


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
        bounded = line.price is not None and math.isfinite(line.price.epsilon)
        return (line.price.epsilon if line.price is not None and bounded else None), line.delta
    epsilon = result.get("epsilon")
    return (float(epsilon) if isinstance(epsilon, int | float) else None), delta


@contextmanager
def consent_store(url: str) -> Iterator[ConsentStore | None]:
    """The consent store at a URL; None where there is no database yet, and none is made."""
    path = url.removeprefix("sqlite:///")
    if path != url and not Path(path).exists():
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


def refuse_if_somebody_left(folder: RunFolder, config: Recipe) -> None:
    """Nothing, if everybody whose data is in an unfinished run still agrees, by the consent store.

    Raises:
      ConsentError: somebody does not; how many is not told.
    """
    manifest = read_manifest(folder.path)
    if manifest is None:
        return
    if manifest.erased or gone_by_store(manifest, store_url(config), PrincipalKey.load(config.consent.key)):
        raise ConsentError(
            f"run {folder.path}: somebody whose data is in it does not agree to {manifest.purpose.value} any more "
            f"(withdrawn, expired or erased), so it may not go on; dp-train train --from-run {folder.path} starts one "
            "without them"
        )
