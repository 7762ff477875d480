"""The store of runs: one address, made ready once, experiments with their saved view, runs and their list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dp_train.errors import TrackingError
from dp_train.tracking.connection import (
    absolute_uri,
    client,
    is_server,
    make_ready,
    see,
    shown,
    sqlite_path,
    tracking_errors,
)
from dp_train.tracking.moved import follow_move
from dp_train.tracking.run import DELTA, EPSILON, RunKind, TrackedRun
from dp_train.tracking.view import install_view

if TYPE_CHECKING:
    from mlflow.entities import Run

MARK = "dp_train.mark"
"""Tag by which a run is found whose id was not written down: its process was killed as it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run as a list shows it. `epsilon` is None without privacy, while it runs, and where it is withheld."""

    run_id: str
    experiment: str
    name: str
    kind: str
    status: str
    started: datetime
    parent_id: str | None
    task: str | None
    privacy: str | None
    epsilon: float | None
    delta: float | None
    withheld: str | None
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingStore:
    """Where runs are recorded. `TrackingStore.open` makes one; children of a sweep open the same `uri`.

    Attributes:
      uri: absolute address.
      artifact_root: where new experiments keep files; None where an MLflow server decides.
    """

    uri: str
    artifact_root: str | None

    @classmethod
    def open(cls, uri: str | None = None, *, folder: Path | None = None, wait_seconds: float = 20) -> TrackingStore:
        """The store at `uri`, else at MLFLOW_TRACKING_URI, else ``mlflow.db`` in `folder`; made where it is missing.

        Args:
          folder: where a relative path begins; the working folder, if not given.
          wait_seconds: how long to wait for a database that is locked.

        Raises:
          TrackingError: not a database or server, locked, read-only, of another MLflow version, or no answer.
        """
        base = (folder or Path.cwd()).absolute()
        address = absolute_uri(uri, base)
        make_ready(address, wait_seconds=wait_seconds)
        path = sqlite_path(address)
        root = None if is_server(address) else ((path.parent if path else base) / "mlartifacts").as_uri()
        if path and root:
            follow_move(path, root, wait_seconds=wait_seconds)
        return cls(uri=address, artifact_root=root)

    @classmethod
    def see(cls, uri: str | None = None, *, folder: Path | None = None, wait_seconds: float = 20) -> None:
        """Find out within 15 s whether `open` could use the store, whatever its kind; makes nothing.

        Raises:
          TrackingError: as `open`.
        """
        see(absolute_uri(uri, (folder or Path.cwd()).absolute()), wait_seconds=wait_seconds)

    def experiment(self, name: str, *, metrics: Sequence[str] = ()) -> str:
        """Id of the experiment, made where it is missing, with the saved view for the primary `metrics`.

        The view is a convenience in an undocumented format: where it cannot be written, a warning is logged.
        """
        from mlflow.exceptions import MlflowException

        with tracking_errors(self.uri):
            found = client(self.uri).get_experiment_by_name(name)
            if found is None:
                try:
                    client(self.uri).create_experiment(name, artifact_location=self.artifact_root)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                found = client(self.uri).get_experiment_by_name(name)  # made here, or by a process that was faster
        if found is None or found.lifecycle_stage != "active":
            raise TrackingError(f"tracking: experiment {name!r} is deleted; restore it, or set tracking.experiment")
        experiment_id = str(found.experiment_id)
        if metrics:
            install_view(self.uri, experiment_id, metrics)
        return experiment_id

    def start_run(
        self,
        experiment_id: str,
        *,
        name: str,
        kind: RunKind = RunKind.TRAIN,
        parent_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrackedRun:
        """A new run, a child of `parent_id` where given. Use it as a context manager.

        MLflow's own tags of the user's login and machine are not set.
        """
        every = {"dp_train.kind": kind.value, "mlflow.source.name": "dp-train", **(tags or {})}
        if parent_id is not None:
            every["mlflow.parentRunId"] = parent_id
        with tracking_errors(self.uri):
            run = client(self.uri).create_run(experiment_id, run_name=name, tags=every)
        return TrackedRun(self.uri, run_id=run.info.run_id, experiment_id=experiment_id)

    def resume_run(self, run_id: str) -> TrackedRun:
        """Take up a run again under its id; its parameters stay as they are."""
        run = self._run(run_id)
        with tracking_errors(self.uri):
            client(self.uri).update_run(run_id, status="RUNNING")
        return TrackedRun(self.uri, run_id=run_id, experiment_id=run.info.experiment_id)

    def marked(self, mark: str) -> str | None:
        """Id of the run that was started with this mark; None where there is none."""
        with tracking_errors(self.uri):
            everywhere = [item.experiment_id for item in client(self.uri).search_experiments()]
            found = client(self.uri).search_runs(everywhere, filter_string=f"tags.`{MARK}` = '{mark}'", max_results=1)
        return found[0].info.run_id if found else None

    def read_text(self, run_id: str, file: str) -> str:
        """Text of one of a run's artifacts, e.g. `run.CONFIG_FILE` to repeat the run."""
        from tempfile import TemporaryDirectory

        self._run(run_id)
        with TemporaryDirectory() as folder, tracking_errors(self.uri):
            there = client(self.uri).list_artifacts(run_id, str(PurePosixPath(file).parent))
            if file not in (item.path for item in there):
                raise TrackingError(f"tracking: run {run_id} has no {file}; choose a run that dp-train has logged")
            return Path(client(self.uri).download_artifacts(run_id, file, folder)).read_text()

    def runs(
        self, *, experiment: str | None = None, kind: RunKind | None = None, limit: int = 100
    ) -> tuple[RunRow, ...]:
        """The newest runs first, of one experiment or of all.

        Raises:
          TrackingError: there is no such experiment.
        """
        with tracking_errors(self.uri):
            found = client(self.uri).search_experiments()
            names = {item.experiment_id: item.name for item in found if experiment in (None, item.name)}
            if experiment is not None and not names:
                raise TrackingError(f"tracking: no experiment {experiment!r} in {shown(self.uri)}; see dp-train ls")
            runs = client(self.uri).search_runs(
                list(names),
                filter_string=f"tags.`dp_train.kind` = '{kind.value}'" if kind else "tags.`dp_train.kind` != ''",
                max_results=limit,
                order_by=["attributes.start_time DESC"],
            )
        return tuple(_row(run, names[run.info.experiment_id]) for run in runs)

    def _run(self, run_id: str) -> Run:
        from mlflow.exceptions import MlflowException

        with tracking_errors(self.uri):
            try:
                return client(self.uri).get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise TrackingError(f"tracking: no run {run_id} in {shown(self.uri)}; see dp-train ls") from error


def _row(run: Run, experiment: str) -> RunRow:
    tags: Mapping[str, Any] = run.data.tags
    metrics: Mapping[str, float] = run.data.metrics
    epsilon = metrics.get(EPSILON)
    withheld = tags.get("privacy.withheld")
    return RunRow(
        run_id=run.info.run_id,
        experiment=experiment,
        name=run.info.run_name or "",
        kind=tags["dp_train.kind"],
        status=run.info.status,
        started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        parent_id=tags.get("mlflow.parentRunId"),
        task=tags.get("dp_train.task"),
        privacy=tags.get("privacy.mode"),
        epsilon=None if withheld or epsilon is None or math.isnan(epsilon) else epsilon,
        delta=None if withheld else metrics.get(DELTA),
        withheld=withheld,
        scores={name.removeprefix("utility/"): value for name, value in metrics.items() if name.startswith("utility/")},
    )
