"""Where a run may be recorded beside its folder: a small protocol, and MLflow as the one implementation of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dp_train.corpora.adapters.benchmark import WARNING
from dp_train.runs.folder import RunFolder
from dp_train.runs.heads import head_tags
from dp_train.runs.names import TrackerName
from dp_train.runs.prepare import Parts, metric_of, model_spec
from dp_train.runs.recipe import Recipe, recipe_values
from dp_train.runs.result import TrialOf, label
from dp_train.tasks.base import Sample
from dp_train.tasks.metrics import TriggerPoint
from dp_train.tracking.callback import MlflowCallback
from dp_train.tracking.connection import sqlite_path
from dp_train.tracking.provenance import public_config, public_overrides
from dp_train.tracking.run import RunKind, TrackedRun
from dp_train.tracking.store import MARK, TrackingStore
from dp_train.training.callbacks import Callback, RunStatus

NOTE = "tracking.json"


class Record(Protocol):
    """What a tracker keeps of one run. All of it is public but what `log_private` is asked to take."""

    @property
    def identifier(self) -> str: ...

    def callback(self, validate: Callable[[], Mapping[str, float]] | None) -> Callback:
        """What follows the run; `validate` scores public examples at a few steps."""
        ...

    def log_scores(self, scores: Mapping[str, float]) -> None: ...

    def log_model(self, recipe: Recipe, scores: Mapping[str, float]) -> None:
        """The finished model, whose weights stay in the run's folder."""
        ...

    def log_samples(self, samples: Sequence[Sample]) -> None: ...

    def log_files(self, *paths: Path) -> None: ...

    def log_trigger_curve(self, curve: Iterable[TriggerPoint]) -> None: ...

    def log_private(self, statistics: Mapping[str, float]) -> None: ...

    def close(self) -> None:
        """Say that the run has finished, before its folder says so: what has finished is not opened again."""
        ...


class Tracker(Protocol):
    """Opens the record of a run, or the one that its folder names, and closes it on every way out."""

    def follow(
        self, parts: Parts, folder: RunFolder, *, overrides: Sequence[str], trial_of: TrialOf
    ) -> AbstractContextManager[Record]: ...


@dataclass(frozen=True, slots=True)
class MlflowRecord:
    """A run of MLflow as `Record`."""

    run: TrackedRun
    log_private_statistics: bool

    @property
    def identifier(self) -> str:
        return self.run.run_id

    def callback(self, validate: Callable[[], Mapping[str, float]] | None) -> Callback:
        return MlflowCallback(self.run, log_private_statistics=self.log_private_statistics, validate=validate)

    def log_scores(self, scores: Mapping[str, float]) -> None:
        self.run.log_scores(scores)

    def log_model(self, recipe: Recipe, scores: Mapping[str, float]) -> None:
        self.run.log_model(recipe.task.name, _parameters(recipe), scores)

    def log_samples(self, samples: Sequence[Sample]) -> None:
        self.run.log_samples(samples)

    def log_files(self, *paths: Path) -> None:
        self.run.log_files(*paths)

    def log_trigger_curve(self, curve: Iterable[TriggerPoint]) -> None:
        self.run.log_trigger_curve(curve)

    def log_private(self, statistics: Mapping[str, float]) -> None:
        self.run.log_private(statistics)

    def close(self) -> None:
        self.run.finish(RunStatus.FINISHED)


@dataclass(frozen=True, slots=True)
class MlflowTracker:
    """Records runs in an MLflow store."""

    store: TrackingStore

    @contextmanager
    def follow(
        self, parts: Parts, folder: RunFolder, *, overrides: Sequence[str] = (), trial_of: TrialOf | None = None
    ) -> Iterator[MlflowRecord]:
        recipe = parts.recipe
        opened = _open(
            self.store,
            folder,
            name=label(recipe),
            kind=RunKind.TRAIN,
            parent_id=None if trial_of is None else trial_of.parent_id,
            experiment=lambda: self.store.experiment(experiment_name(recipe), metrics=[parts.data.task.metric]),
        )
        with opened.run as run:
            if not opened.described:
                run.log_provenance(recipe_values(recipe), overrides)
                run.log_params(_parameters(recipe))
                units = parts.data.units
                run.log_dataset(recipe.corpus.source, consent_root=units.consent_root, purpose=units.purpose.value)
                if recipe.corpus.research_only:
                    run.set_tags({"dp_train.research_only": WARNING})
                _describe(folder)
            try:
                run.set_tags(head_tags(folder))
                yield MlflowRecord(run, recipe.tracking.log_private_statistics)
            finally:
                run.set_tags(head_tags(folder))  # the ledger's is there only now


def open_store(config: Recipe) -> TrackingStore | None:
    """The store of the configuration, ready to be written; None with tracking=off."""
    return None if config.tracking.name is TrackerName.OFF else TrackingStore.open(config.tracking.uri)


def tracker_of(config: Recipe) -> MlflowTracker | None:
    """The tracker that a recipe asks for; None with tracking=off."""
    store = open_store(config)
    return None if store is None else MlflowTracker(store)


def experiment_name(config: Recipe) -> str:
    """Name of the MLflow experiment."""
    return config.tracking.experiment or config.task.name


@contextmanager
def followed_parent(
    store: TrackingStore | None,
    recipes: Sequence[Recipe],
    folder: RunFolder,
    *,
    name: str,
    kind: RunKind,
    overrides: Sequence[str],
) -> Iterator[TrackedRun | None]:
    """The run that the trials of a study are children of, continued on resume; None without a store."""
    if store is None:
        yield None
        return
    opened = _open(
        store,
        folder,
        name=name,
        kind=kind,
        parent_id=None,
        experiment=lambda: store.experiment(
            experiment_name(recipes[0]), metrics=[metric_of(recipe) for recipe in recipes]
        ),
    )
    with opened.run as run:
        if not opened.described:
            # Each without its seed: one level down, the tracker would not know it for a seed.
            trees = {recipe.task.name: public_config(recipe_values(recipe)) for recipe in recipes}
            run.log_provenance(trees, overrides)
            run.set_tags({"dp_train.overrides": " ".join(public_overrides(overrides))})
            if any(recipe.corpus.research_only for recipe in recipes):
                run.set_tags({"dp_train.research_only": WARNING})
            _describe(folder)
        yield run


@dataclass(frozen=True, slots=True)
class _Opened:
    """A record, and whether its configuration is in it already."""

    run: TrackedRun
    described: bool


def _open(
    store: TrackingStore,
    folder: RunFolder,
    *,
    name: str,
    kind: RunKind,
    parent_id: str | None,
    experiment: Callable[[], str],
) -> _Opened:
    """The record that a folder names, or a new one.

    The folder names a new record before it is made, so that a process that is killed between the two leaves none that
    says RUNNING and that nobody looks for.
    """
    note = folder.read_json(NOTE)
    if "run_id" in note:
        return _Opened(store.resume_run(str(note["run_id"])), described=bool(note.get("described", True)))
    mark = str(note.get("mark") or secrets.token_hex(8))
    found = store.marked(mark) if "mark" in note else None
    if found is None:
        folder.write_json(NOTE, {"mark": mark})
        run = store.start_run(experiment(), name=name, kind=kind, parent_id=parent_id, tags={MARK: mark})
    else:
        run = store.resume_run(found)
    folder.write_json(NOTE, {**_note(run, folder), "described": False})
    return _Opened(run, described=False)


def _describe(folder: RunFolder) -> None:
    """Note that the record has its configuration."""
    folder.write_json(NOTE, {name: value for name, value in folder.read_json(NOTE).items() if name != "described"})


def close_record(config: Recipe, folder: RunFolder) -> None:
    """Mark a run's record as killed whose process is gone and could not; nothing where there is none."""
    known = folder.read_json(NOTE).get("run_id")
    store = open_store(config) if known is not None else None
    if store is not None and known is not None:
        store.resume_run(known).finish(RunStatus.KILLED)


def _note(run: TrackedRun, folder: RunFolder) -> dict[str, str]:
    """Where the run is recorded; a server's address, which may hold a password, is in the configuration alone."""
    note = {"run_id": run.run_id, "experiment_id": run.experiment_id}
    file = sqlite_path(run.uri)
    return note if file is None else {**note, "store": os.path.relpath(file, folder.path)}


def _parameters(config: Recipe) -> dict[str, str | int | float | bool | None]:
    """Settings that people compare runs by; the callback adds the plan's."""
    spec = model_spec(config)
    return {
        "model.architecture": spec.architecture.value,
        "model.layers": spec.layers,
        "model.width": spec.width,
        "model.trainable": config.model.trainable.value,
        "optimizer.name": config.optimizer.name,
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "privacy.target_epsilon": config.privacy.epsilon,
        "start.mode": config.start.mode.value,
        "corpus.source": config.corpus.source,
        "corpus.train_on": config.corpus.train_on.value,
    }


__all__ = [
    "MlflowRecord",
    "MlflowTracker",
    "Record",
    "Tracker",
    "close_record",
    "experiment_name",
    "followed_parent",
    "open_store",
    "tracker_of",
]
