"""One MLflow run: parameters, scores, samples and files, and a status that is true however it ends."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dp_train.errors import TrackingError
from dp_train.tracking.connection import client, tracking_errors
from dp_train.tracking.figures import FrontierPoint
from dp_train.tracking.provenance import git_state, public_config, public_overrides, versions
from dp_train.tracking.view import FRONTIER_PICTURE, show_children

if TYPE_CHECKING:
    from dp_train.tasks.base import Sample
    from dp_train.tasks.metrics import TriggerPoint
    from dp_train.training.callbacks import RunStatus

EPSILON = "privacy/epsilon"
DELTA = "privacy/delta"
TAINTED = "privacy.tainted"
PLANNED_EPSILON = "privacy/planned_epsilon"
CONFIG_FILE = "config/config.yaml"
OVERRIDES_FILE = "config/overrides.yaml"

_TABLES = "mlflow.loggedArtifacts"
"""Tag by which MLflow's view of tables finds them."""
_BATCH = 1000
"""The most metrics that MLflow takes at once."""

Value = str | int | float | bool | None


class RunKind(Enum):
    """What a run is; the tag ``dp_train.kind``, by which the saved view finds training runs."""

    TRAIN = "train"
    TRADEOFF = "tradeoff"
    SWEEP = "sweep"
    PRETRAIN = "pretrain"
    DEMO = "demo"


class TrackedRun:
    """A run in the store. As a context manager it is closed on every way out.

    | the block ends | status |
    |---|---|
    | normally | that of `finish`, or FINISHED |
    | with an exception | FAILED |
    | with KeyboardInterrupt or SystemExit | KILLED |

    It takes public values. Text goes in by `log_samples` alone, whose samples come from people who agreed to
    publication. Every method raises TrackingError where the store cannot be written.
    """

    def __init__(self, uri: str, *, run_id: str, experiment_id: str) -> None:
        self.uri = uri
        self.run_id = run_id
        self.experiment_id = experiment_id
        self._status = "FINISHED"

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self._terminate()
            return
        self._status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        with suppress(TrackingError):  # the first error is the one to tell
            self._terminate()

    def finish(self, status: RunStatus) -> None:
        """Set the status now; what is logged later (scores, samples) still lands in the run."""
        self._status = status.value
        self._terminate()

    def log_params(self, params: Mapping[str, Value]) -> None:
        """Record public settings. None is left out.

        A resumed run keeps the parameters it began with; the names of those that differ now go into the tag
        ``dp_train.changed_on_resume``.
        """
        from mlflow.entities import Param, RunTag

        with tracking_errors(self.uri):
            there = client(self.uri).get_run(self.run_id).data.params
            given = {name: str(value) for name, value in params.items() if value is not None}
            changed = sorted(name for name, value in given.items() if there.get(name, value) != value)
            client(self.uri).log_batch(
                self.run_id,
                params=[Param(name, value) for name, value in given.items() if name not in there],
                tags=[RunTag("dp_train.changed_on_resume", ", ".join(changed))] if changed else [],
                synchronous=True,
            )

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        from mlflow.entities import RunTag

        with tracking_errors(self.uri):
            client(self.uri).log_batch(
                self.run_id, tags=[RunTag(name, value) for name, value in tags.items()], synchronous=True
            )

    def log_scores(self, scores: Mapping[str, float], *, step: int | None = None) -> None:
        """Scores on the evaluation population: ``utility/<name>`` at the end, ``valid/<name>`` at a step within."""
        if step is None:
            self.log_metrics({f"utility/{name}": score for name, score in scores.items()})
        else:
            self.log_metrics({f"valid/{name}": score for name, score in scores.items()}, step=step)

    def log_baselines(self, scores: Mapping[str, float]) -> None:
        """Scores of methods that learn nothing, as ``baseline/<name>``, e.g. ``baseline/lead3/rougeL``."""
        self.log_metrics({f"baseline/{name}": score for name, score in scores.items()})

    def log_trigger_curve(self, curve: Iterable[TriggerPoint]) -> None:
        """What is taken and saved as more suggestions are shown: ``suggestions/<name>``, step = per cent shown."""
        rows = [
            (f"suggestions/{name}", getattr(point, name), round(100 * point.shown))
            for point in curve
            for name in ("threshold", "accepted", "saved")
        ]
        self.log_metric_rows(rows)

    def log_private(self, statistics: Mapping[str, float]) -> None:
        """Private statistics of a whole run, as ``train/<name>``: for whoever asked for them, once the run is marked.

        They are released data that no ε covers.
        """
        self.set_tags({TAINTED: "true"})
        self.log_metrics({f"train/{name}": value for name, value in statistics.items()})

    def log_frontier(
        self, points: Iterable[FrontierPoint], references: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        """The frontier on a parent run, as ``frontier/<metric>`` with step = round(1000·ε), which the view joins.

        It is readable where the saved view is not; several trials at one ε give their median.

        Args:
          references: for a metric, horizontal lines by name (`view.REFERENCES`).
        """
        scores: dict[tuple[str, int], list[float]] = {}
        for point in points:
            if point.epsilon is not None and math.isfinite(point.epsilon):
                scores.setdefault((point.metric, round(1000 * point.epsilon)), []).append(point.score)
        rows = [(f"frontier/{metric}", median(trials), step) for (metric, step), trials in sorted(scores.items())]
        rows += [
            (f"frontier/{metric}/{name}", value, step)
            for metric, step in sorted(scores)
            for name, value in (references or {}).get(metric, {}).items()
        ]
        self.log_metric_rows(rows)
        show_children(self.uri, self.experiment_id, self.run_id)

    def log_picture(self, path: Path) -> None:
        """The frontier's picture, which the view shows first."""
        from PIL import Image

        with tracking_errors(self.uri), Image.open(path) as image:
            client(self.uri).log_image(self.run_id, image, key=FRONTIER_PICTURE, step=0)

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Public numbers at one step. What is not finite is left out: MLflow stores inf as 1.8e308."""
        self.log_metric_rows([(name, value, step) for name, value in metrics.items()])

    def log_metric_rows(self, rows: Sequence[tuple[str, float, int]]) -> None:
        """(name, value, step) of several steps in few statements; not finite is left out."""
        from mlflow.entities import Metric

        now = _minute()
        metrics = [Metric(name, float(value), now, step) for name, value, step in rows if math.isfinite(value)]
        with tracking_errors(self.uri):
            for start in range(0, len(metrics), _BATCH):
                client(self.uri).log_batch(self.run_id, metrics=metrics[start : start + _BATCH], synchronous=True)

    def log_nan(self, name: str, *, step: int) -> None:
        """Blank the latest value of a metric that may no longer be shown; its history stays, MLflow deletes nothing.

        It is dated a minute on: of values of one step and minute MLflow shows the largest, and takes NaN for 0.
        """
        from mlflow.entities import Metric

        blank = Metric(name, math.nan, _minute() + 60_000, step)
        with tracking_errors(self.uri):
            client(self.uri).log_batch(self.run_id, metrics=[blank], synchronous=True)

    def log_samples(self, samples: Sequence[Sample], *, file: str = "samples.json") -> None:
        """Outputs beside references, as a table of the MLflow UI; from the evaluation population only."""
        if not samples:
            return
        rows = [asdict(sample) for sample in samples]
        # Not `log_table`, which appends to the table of a process that was killed after it wrote this one.
        table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        with tracking_errors(self.uri):
            client(self.uri).log_text(self.run_id, json.dumps(table, ensure_ascii=False), file)
            tags = client(self.uri).get_run(self.run_id).data.tags
        known = json.loads(tags.get(_TABLES, "[]"))
        entry = {"path": file, "type": "table"}
        self.set_tags({_TABLES: json.dumps(known if entry in known else [*known, entry])})

    def log_dataset(self, name: str, *, consent_root: str, purpose: str) -> None:
        """What the run learns from, as an input of MLflow's own: a name, and which decisions let it in; no content."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        profile = json.dumps({"consent_root": consent_root, "purpose": purpose})
        # Of what is in it no digest is public; MLflow takes 36 characters.
        dataset = Dataset(name, consent_root[:36], "consent", f"consent snapshot {consent_root}", profile=profile)
        with tracking_errors(self.uri):
            tags = [InputTag("mlflow.data.context", "training")]
            client(self.uri).log_inputs(self.run_id, [DatasetInput(dataset, tags)])

    def log_model(self, name: str, params: Mapping[str, Value], scores: Mapping[str, float]) -> None:
        """The finished model as an output of MLflow's own, once a run: what it is and how it scores.

        Its weights stay in the run's folder, and its ε on the run, where it can be withdrawn.
        """
        from mlflow.entities import LoggedModelOutput, Metric

        given = {key: str(value) for key, value in params.items() if value is not None}
        with tracking_errors(self.uri):
            there = client(self.uri).get_run(self.run_id).outputs
            if there is not None and there.model_outputs:
                return
            model = client(self.uri).create_logged_model(
                self.experiment_id, name, source_run_id=self.run_id, params=given, model_type="dp_train"
            )
            client(self.uri).finalize_logged_model(model.model_id, "READY")
            client(self.uri).log_outputs(self.run_id, [LoggedModelOutput(model.model_id, 0)])
            now = _minute()
            of_model = [
                Metric(f"utility/{key}", float(value), now, 0, model_id=model.model_id, run_id=self.run_id)
                for key, value in scores.items()
                if math.isfinite(value)
            ]
            client(self.uri).log_batch(self.run_id, metrics=of_model, synchronous=True)

    def log_files(self, *paths: Path, folder: str = "") -> None:
        """Copy public files (figure, card) into the run's artifacts."""
        with tracking_errors(self.uri):
            for path in paths:
                client(self.uri).log_artifact(self.run_id, str(path), folder or None)

    def log_provenance(self, config: Mapping[str, Any], overrides: Sequence[str] = ()) -> None:
        """Composed configuration, overrides, git state and versions; a seed is taken out on the way.

        `config` holds plain values (mappings, lists, strings, numbers), as YAML can write them.
        """
        import yaml

        git = git_state()
        found = versions()
        texts = {
            CONFIG_FILE: yaml.safe_dump(public_config(config), sort_keys=False, allow_unicode=True),
            OVERRIDES_FILE: yaml.safe_dump(public_overrides(overrides), allow_unicode=True),
            "provenance/versions.yaml": yaml.safe_dump(found, sort_keys=False),
        }
        tags = {"dp_train.version": found.get("dp_train", "unknown")}
        if git is not None:
            tags |= {"mlflow.source.git.commit": git.commit, "git.dirty": str(git.dirty).lower()}
            if git.diff_digest:
                texts["provenance/changes.diff"] = git.diff
                tags["git.diff_sha256"] = git.diff_digest
        self.set_tags(tags)
        with tracking_errors(self.uri):
            for file, text in texts.items():
                client(self.uri).log_text(self.run_id, text, file)

    def metric_history(self, name: str) -> list[tuple[int, float]]:
        """(step, value) as logged, steps in order."""
        with tracking_errors(self.uri):
            history = client(self.uri).get_metric_history(self.run_id, name)
        return sorted((metric.step, metric.value) for metric in history)

    def _terminate(self) -> None:
        with tracking_errors(self.uri):
            client(self.uri).set_terminated(self.run_id, status=self._status)


def _minute() -> int:
    """Now in milliseconds, cut to the minute: when a step was written tells how many people were in it."""
    return int(time.time() // 60) * 60_000
