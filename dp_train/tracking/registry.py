"""MLflow's model registry: a finished run's model as a version, and what a withdrawal says about it, as tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dp_train.errors import TrackingError
from dp_train.tracking.connection import client, tracking_errors
from dp_train.tracking.store import TrackingStore

ARTIFACT = "model"
"""Where a run's artifacts keep the exported model."""

ACTION, ACT_BY = "consent.action", "consent.act_by"
"""Tags that a withdrawal sets: the policy's action, and by when."""

RESERVATION = "ledger.reservation"
"""Tag of a promoted version: the run's line in the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A version of a registered model; `aliases` are names such as "champion" that point at it."""

    name: str
    version: str
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"


def register(
    store: TrackingStore, run_id: str, folder: Path, *, name: str, alias: str | None, tags: Mapping[str, str]
) -> ModelVersion:
    """Register an exported model as a version, from a copy among the artifacts of its run.

    Guarantee: a line of the ledger has at most one version under a name. Registered again, it keeps its number, takes
    today's tags, and the alias if one is named.

    Raises:
      TrackingError: the store cannot be written, or knows no such run.
    """
    from mlflow.exceptions import MlflowException

    with tracking_errors(store.uri):
        mlflow = client(store.uri)
        try:
            run = mlflow.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise TrackingError(f"tracking: no run {run_id} in this store; give --uri of the one it is in") from error
        try:
            mlflow.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        earlier = versions_of_reservation(store, tags.get(RESERVATION, ""))
        there = next((version for version in earlier if version.name == name and version.run_id == run_id), None)
        if there is None:
            mlflow.log_artifacts(run_id, str(folder), ARTIFACT)
            made = mlflow.create_model_version(
                name, source=f"{run.info.artifact_uri}/{ARTIFACT}", run_id=run_id, tags=dict(tags)
            )
            number = str(made.version)
        else:
            mark(store, there, tags)
            number = there.version
        if alias is not None:
            mlflow.set_registered_model_alias(name, alias, number)
    return _version(store, name, number)


def versions(store: TrackingStore, run_id: str) -> tuple[ModelVersion, ...]:
    """The model versions that came from a run, the oldest first."""
    if not run_id.isalnum():  # it goes into a filter
        return ()
    with tracking_errors(store.uri):
        found = client(store.uri).search_model_versions(f"run_id = '{run_id}'")
    pairs = sorted((row.name, int(row.version)) for row in found)
    return tuple(_version(store, name, str(number)) for name, number in pairs)


def versions_of_reservation(store: TrackingStore, reservation: str) -> tuple[ModelVersion, ...]:
    """The model versions that say they came from a line of the ledger, the oldest first."""
    if not reservation.isalnum():  # it goes into a filter
        return ()
    with tracking_errors(store.uri):
        found = client(store.uri).search_model_versions(f"tag.`{RESERVATION}` = '{reservation}'")
    pairs = sorted((row.name, int(row.version)) for row in found)
    return tuple(_version(store, name, str(number)) for name, number in pairs)


def mark(store: TrackingStore, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Set or replace tags of a version."""
    with tracking_errors(store.uri):
        for key, value in tags.items():
            client(store.uri).set_model_version_tag(version.name, version.version, key, value)


def withdraw_aliases(store: TrackingStore, version: ModelVersion) -> None:
    """Take away every alias that points at a version, so that nobody loads it by one."""
    with tracking_errors(store.uri):
        for alias in version.aliases:
            client(store.uri).delete_registered_model_alias(version.name, alias)


def _version(store: TrackingStore, name: str, number: str) -> ModelVersion:
    with tracking_errors(store.uri):
        found = client(store.uri).get_model_version(name, number)
    return ModelVersion(
        name=name, version=number, run_id=found.run_id or "", aliases=tuple(found.aliases), tags=dict(found.tags)
    )
