"""What reaches the store of a run: public numbers always, the ε only by way of the claim, nothing private unasked."""

import contextlib
import math
import struct
from pathlib import Path

import pytest
from followed_run import PLAN, follow

from dp_train.errors import TrackingError
from dp_train.tracking.callback import MlflowCallback
from dp_train.tracking.connection import client
from dp_train.tracking.run import TrackedRun
from dp_train.tracking.store import TrackingStore
from dp_train.training.callbacks import RunStatus, public_points

PRIVATE_NAMES = {
    "train/loss",
    "train/share_clipped",
    "train/units_drawn",
    "train/nonfinite_units",
    "train/seconds",
    "train/peak_memory_mib",
}


@pytest.fixture
def run(store: TrackingStore) -> TrackedRun:
    return store.start_run(store.experiment("summary"), name="eps")


def data(run: TrackedRun) -> tuple[dict[str, float], dict[str, str], dict[str, str]]:
    found = client(run.uri).get_run(run.run_id).data
    return found.metrics, found.params, found.tags


def test_a_private_run_shows_its_plan_and_its_epsilon(store: TrackingStore, run: TrackedRun) -> None:
    follow(MlflowCallback(run))
    metrics, params, tags = data(run)
    assert metrics["privacy/epsilon"] == PLAN.epsilon()
    assert metrics["privacy/delta"] == PLAN.delta
    assert [step for step, _ in run.metric_history("privacy/epsilon")] == [1, 2, 3, 4]
    assert params["privacy.noise_multiplier"] == "1.0"
    assert params["engine"] == "hooks"
    assert (tags["privacy.mode"], tags["seed"], tags["consent.root"]) == ("dp", "secret", "ab" * 32)
    assert "per person" in tags["privacy.claim"]
    (row,) = store.runs()
    assert (row.status, row.task, row.epsilon, row.delta) == ("FINISHED", "meeting_summary", PLAN.epsilon(), 1e-5)


def test_no_private_statistic_is_logged_by_default(run: TrackedRun) -> None:
    follow(MlflowCallback(run))
    metrics, _, tags = data(run)
    assert set(metrics) == {
        "train/learning_rate",
        "system/seconds",
        "system/peak_memory_mib",
        "privacy/planned_epsilon",
        "privacy/epsilon",
        "privacy/delta",
    }
    assert "privacy.tainted" not in tags


def test_times_tell_no_step(run: TrackedRun) -> None:
    """Seconds and peak memory are once a run, and what is stored of a step has the time of a minute."""
    follow(MlflowCallback(run))
    for name in ("system/seconds", "system/peak_memory_mib"):
        assert [step for step, _ in run.metric_history(name)] == [PLAN.steps]
    times = {metric.timestamp for metric in client(run.uri).get_metric_history(run.run_id, "train/learning_rate")}
    assert all(time % 60_000 == 0 for time in times)


def test_a_run_is_written_at_eight_public_steps_alone(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, writes = PLAN.replace(steps=60), []
    write = TrackedRun.log_metric_rows

    def note(self: TrackedRun, rows: list[tuple[str, float, int]]) -> None:
        writes.append(max(step for _, _, step in rows))
        write(self, rows)

    monkeypatch.setattr(TrackedRun, "log_metric_rows", note)
    follow(MlflowCallback(run), plan=plan, end=False)
    assert writes == list(public_points(60))
    assert len(writes) == 8


def test_private_statistics_are_logged_on_request_and_taint_the_run(run: TrackedRun) -> None:
    follow(MlflowCallback(run, log_private_statistics=True))
    metrics, _, tags = data(run)
    assert metrics.keys() >= PRIVATE_NAMES
    assert (metrics["train/loss"], metrics["train/share_clipped"]) == (4.5, 0.5)
    assert tags["privacy.tainted"] == "true"


def test_a_withheld_epsilon_is_nowhere(store: TrackingStore, run: TrackedRun) -> None:
    follow(MlflowCallback(run), noise_std=0.5)
    metrics, _, tags = data(run)
    assert not {"privacy/epsilon", "privacy/delta"} & metrics.keys()
    assert tags["privacy.withheld"] == "the noise std was not σ·C=1"
    assert "privacy.claim" not in tags
    assert store.runs()[0].epsilon is None


def test_an_epsilon_withheld_after_a_resume_is_blanked(store: TrackingStore, run: TrackedRun) -> None:
    follow(MlflowCallback(run), last_step=2, status=RunStatus.KILLED)
    assert store.runs()[0].epsilon == PLAN.epsilon()
    follow(MlflowCallback(store.resume_run(run.run_id)), first_step=2, noise_std=0.5)
    assert math.isnan(data(run)[0]["privacy/epsilon"])
    assert store.runs()[0].epsilon is None


def test_a_run_without_privacy_has_no_epsilon(run: TrackedRun) -> None:
    follow(MlflowCallback(run), plan=PLAN.without_privacy())
    metrics, params, tags = data(run)
    assert not [name for name in metrics if name.startswith("privacy/")]
    assert tags["privacy.mode"] == "none"
    assert "privacy.clip_norm" not in params


@pytest.mark.parametrize("sigma", [1e-4, 1.0])
def test_inf_never_reaches_the_store(sigma: float, run: TrackedRun) -> None:
    follow(MlflowCallback(run), plan=PLAN.replace(noise_multiplier=sigma))
    assert all(math.isfinite(value) and abs(value) < 1e300 for value in data(run)[0].values())
    assert ("privacy/epsilon" in data(run)[0]) == (sigma == 1.0)
    assert data(run)[2]["privacy.mode"] == ("dp" if sigma == 1.0 else "none")


@pytest.mark.parametrize("status", list(RunStatus))
def test_status_is_that_of_the_result(status: RunStatus, run: TrackedRun) -> None:
    follow(MlflowCallback(run), last_step=2, status=status)
    assert client(run.uri).get_run(run.run_id).info.status == status.value
    assert data(run)[0]["privacy/epsilon"] == PLAN.epsilon()  # whoever stops early is charged in full


def test_a_run_resumed_after_sigkill_has_the_curve_of_one_left_alone(store: TrackingStore) -> None:
    experiment = store.experiment("summary")
    whole, broken = (store.start_run(experiment, name=name) for name in ("whole", "broken"))
    follow(MlflowCallback(whole))
    # Step 3 reached the store, but the checkpoint is of step 2: it is replayed.
    follow(MlflowCallback(broken), last_step=3, end=False)
    follow(MlflowCallback(store.resume_run(broken.run_id)), first_step=2)
    for name in ("privacy/epsilon", "privacy/planned_epsilon", "train/learning_rate"):
        assert broken.metric_history(name) == whole.metric_history(name)
    assert data(broken)[1] == data(whole)[1]
    assert "dp_train.changed_on_resume" not in data(broken)[2]


def test_validation_has_an_epsilon_at_each_of_its_steps(run: TrackedRun) -> None:
    follow(MlflowCallback(run, validate=lambda: {"rougeL": 0.25}))
    valid = run.metric_history("valid/rougeL")
    assert [step for step, _ in valid] == [step for step, _ in run.metric_history("privacy/epsilon")]


def test_a_store_that_cannot_be_written_stops_no_step_and_is_told_at_the_end(
    run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = MlflowCallback(run)
    write = TrackedRun.log_metric_rows

    def refuse(self: TrackedRun, rows: object) -> None:
        raise TrackingError("tracking: the disk is full; free some")

    monkeypatch.setattr(TrackedRun, "log_metric_rows", refuse)
    follow(callback, last_step=3, end=False)
    with pytest.raises(TrackingError):
        follow(callback, first_step=3)
    monkeypatch.setattr(TrackedRun, "log_metric_rows", write)
    follow(callback, first_step=4)
    assert [step for step, _ in run.metric_history("train/learning_rate")] == [1, 2, 3, 4]


def test_nothing_private_is_anywhere_in_the_folder(store: TrackingStore, run: TrackedRun, tmp_path: Path) -> None:
    """Planted: a loss, a seed, a phrase in a failing callback; searched: every byte of database and artifacts."""
    seed, phrase, loss = "7331094277310942", "the zanzibar rollout slipped", 10 * 4.5
    with contextlib.suppress(RuntimeError), run:
        run.log_provenance(
            {"trainer": {"seed": int(seed)}, "corpus": {"seed": 0}},
            [f"trainer.seed={seed}", f"trainer={{steps:3,seed:{seed}}}", "corpus.seed=0"],
        )
        follow(MlflowCallback(run))
        raise RuntimeError(phrase)
    stored = b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file())
    assert b"privacy.plan_digest" in stored  # the search does see the store
    assert struct.pack(">d", PLAN.epsilon()) in stored
    for planted in (seed.encode(), phrase.encode(), struct.pack(">d", loss), struct.pack(">d", loss / 10)):
        assert planted not in stored
