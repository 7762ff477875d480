"""A run in the store: statuses are true, numbers are finite, parameters stay, secrets stay out."""

import contextlib
import json
import math
from pathlib import Path

import pytest

from dp_train.errors import TrackingError
from dp_train.tasks.base import Sample
from dp_train.tracking.connection import client
from dp_train.tracking.figures import FrontierPoint
from dp_train.tracking.run import CONFIG_FILE, OVERRIDES_FILE, RunKind, TrackedRun
from dp_train.tracking.store import TrackingStore
from dp_train.training.callbacks import RunStatus


@pytest.fixture
def run(store: TrackingStore) -> TrackedRun:
    return store.start_run(store.experiment("summary"), name="eps 8")


def data(run: TrackedRun) -> tuple[dict[str, float], dict[str, str], dict[str, str]]:
    found = client(run.uri).get_run(run.run_id).data
    return found.metrics, found.params, found.tags


def status(run: TrackedRun) -> str:
    return str(client(run.uri).get_run(run.run_id).info.status)


def test_dataset_and_model_are_mlflows_own_and_hold_no_content_and_no_epsilon(run: TrackedRun) -> None:
    root = "ab" * 32
    run.log_dataset("embedded", consent_root=root, purpose="train_summary")
    for _ in range(2):  # a run that was killed after it logs them again
        run.log_model("meeting_summary", {"model.layers": 3, "start.name": None}, {"rougeL": 0.5, "bad": math.inf})
    found = client(run.uri).get_run(run.run_id)
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("embedded", root[:36])
    assert json.loads(dataset.dataset.profile) == {"consent_root": root, "purpose": "train_summary"}
    (output,) = found.outputs.model_outputs
    model = client(run.uri).get_logged_model(output.model_id)
    assert (model.name, model.status.value, model.params) == ("meeting_summary", "READY", {"model.layers": "3"})
    assert {metric.key: metric.value for metric in model.metrics or ()} == {"utility/rougeL": 0.5}


@pytest.mark.parametrize(
    ("error", "expected"),
    [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")],
)
def test_status_is_true_however_a_run_ends(run: TrackedRun, error: type[BaseException] | None, expected: str) -> None:
    assert status(run) == "RUNNING"
    with contextlib.suppress(BaseException), run:
        if error:
            raise error
    assert status(run) == expected


def test_what_fit_said_stands_unless_what_follows_fails(store: TrackingStore) -> None:
    experiment = store.experiment("summary")
    with store.start_run(experiment, name="stopped") as stopped:
        stopped.finish(RunStatus.KILLED)
        stopped.log_scores({"rougeL": 0.25})
    assert status(stopped) == "KILLED"
    with contextlib.suppress(ValueError), store.start_run(experiment, name="evaluation failed") as failed:
        failed.finish(RunStatus.FINISHED)
        raise ValueError
    assert status(failed) == "FAILED"


def test_a_failing_child_closes_its_parent_too(store: TrackingStore) -> None:
    experiment = store.experiment("summary")
    with (
        contextlib.suppress(ValueError),
        store.start_run(experiment, name="curve", kind=RunKind.TRADEOFF) as parent,
        store.start_run(experiment, name="child", parent_id=parent.run_id),
    ):
        raise ValueError
    assert [row.status for row in store.runs()] == ["FAILED", "FAILED"]


def test_an_error_within_is_told_rather_than_a_store_that_cannot_be_written(
    run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: TrackedRun) -> None:
        raise TrackingError("tracking: the disk is full; free some")

    monkeypatch.setattr(TrackedRun, "_terminate", refuse)
    with pytest.raises(ValueError, match="the cause"), run:
        raise ValueError("the cause")
    with pytest.raises(TrackingError), run:
        pass


def test_scores_have_no_step_at_the_end_and_one_within(run: TrackedRun) -> None:
    run.log_scores({"rougeL": 0.25})
    run.log_scores({"rougeL": 0.125}, step=7)
    run.log_baselines({"lead3/rougeL": 0.0625})
    assert data(run)[0] == {"utility/rougeL": 0.25, "valid/rougeL": 0.125, "baseline/lead3/rougeL": 0.0625}
    assert run.metric_history("utility/rougeL") == [(0, 0.25)]
    assert run.metric_history("valid/rougeL") == [(7, 0.125)]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_left_out(run: TrackedRun, value: float) -> None:
    run.log_scores({"perplexity": value, "rougeL": 0.25})
    assert data(run)[0] == {"utility/rougeL": 0.25}


def test_thousands_of_numbers_go_in_at_once(run: TrackedRun) -> None:
    run.log_metric_rows([("train/learning_rate", 1 / step, step) for step in range(1, 2502)])
    assert len(run.metric_history("train/learning_rate")) == 2501


def test_parameters_have_no_none_and_stay_on_resume(store: TrackingStore, run: TrackedRun) -> None:
    run.log_params({"privacy.target_epsilon": None, "optimizer.learning_rate": 0.001, "task": "meeting_summary"})
    run.finish(RunStatus.KILLED)
    again = store.resume_run(run.run_id)
    assert status(again) == "RUNNING"
    again.log_params({"optimizer.learning_rate": 0.5, "task": "meeting_summary", "model.layers": 2})
    _, params, tags = data(again)
    assert params == {"optimizer.learning_rate": "0.001", "task": "meeting_summary", "model.layers": "2"}
    assert tags["dp_train.changed_on_resume"] == "optimizer.learning_rate"


def test_the_frontier_stands_on_the_parent_by_thousandths_of_epsilon(run: TrackedRun) -> None:
    def point(epsilon: float | None, score: float) -> FrontierPoint:
        return FrontierPoint(task="summary", metric="rougeL", epsilon=epsilon, score=score)

    run.log_frontier([point(0.5, 0.25), point(8.0, 0.5), point(8.0, 0.75), point(8.0, 0.625), point(None, 0.9)])
    assert run.metric_history("frontier/rougeL") == [(500, 0.25), (8000, 0.625)]


def test_samples_are_a_table(store: TrackingStore, run: TrackedRun) -> None:
    run.log_samples([])
    run.log_samples([Sample("summarise:", "we ship on Monday", "ship Monday")])
    run.log_samples([Sample("summarise:", "we ship on Monday", "ship Monday")])  # resumed, it scores again
    table = store.read_text(run.run_id, "samples.json")
    assert table.count("we ship on Monday") == 1
    assert all(text in table for text in ("prompt", "reference", "output", "ship Monday"))


def test_provenance_repeats_a_run_without_its_seed(store: TrackingStore, run: TrackedRun) -> None:
    run.log_provenance({"trainer": {"seed": 73310942, "steps": 3}}, ["trainer.seed=73310942", "trainer.steps=3"])
    assert store.read_text(run.run_id, CONFIG_FILE) == "trainer:\n  seed: null\n  steps: 3\n"
    assert store.read_text(run.run_id, OVERRIDES_FILE) == "- trainer.steps=3\n"
    assert "mlflow:" in store.read_text(run.run_id, "provenance/versions.yaml")
    assert len(data(run)[2]["mlflow.source.git.commit"]) == 40


def test_files_are_copied(store: TrackingStore, run: TrackedRun, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("a card")
    run.log_files(tmp_path / "card.md", folder="report")
    assert store.read_text(run.run_id, "report/card.md") == "a card"


def test_a_name_that_mlflow_refuses_is_one_line(run: TrackedRun) -> None:
    with pytest.raises(TrackingError, match=r"^tracking: a name or value was refused; [^\n]*$"):
        run.log_scores({"rouge=L": 0.25})


def test_a_blanked_metric_stays_blank_also_where_its_value_was_logged_a_moment_before(run: TrackedRun) -> None:
    run.log_metrics({"privacy/epsilon": 8.0}, step=4)
    run.log_nan("privacy/epsilon", step=4)
    assert math.isnan(data(run)[0]["privacy/epsilon"])
    assert run.metric_history("privacy/epsilon")[0] == (4, 8.0)
