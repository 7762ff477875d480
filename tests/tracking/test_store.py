"""One address, made once; errors of one line; experiments, runs, and their list."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import processes
import pytest

from dp_train.errors import TrackingError
from dp_train.tracking.connection import absolute_uri, client, shown
from dp_train.tracking.run import CONFIG_FILE, RunKind
from dp_train.tracking.store import TrackingStore
from dp_train.training.callbacks import RunStatus


def _open_and_log(folder: str, name: str) -> None:
    store = TrackingStore.open(folder=Path(folder))
    experiment = store.experiment("shared", metrics=["rougeL"])
    with store.start_run(experiment, name=name) as run:
        run.log_scores({"rougeL": 0.25})


def test_four_processes_at_once_on_a_missing_database_all_log(tmp_path: Path) -> None:
    context = processes.context()  # one import, and four that start together
    workers = [context.Process(target=_open_and_log, args=(str(tmp_path), f"run-{number}")) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    rows = TrackingStore.open(folder=tmp_path).runs(experiment="shared")
    assert sorted(row.name for row in rows) == ["run-0", "run-1", "run-2", "run-3"]


def test_relative_addresses_are_taken_from_the_folder(tmp_path: Path) -> None:
    assert absolute_uri("sqlite:///runs/a.db", tmp_path) == f"sqlite:///{tmp_path}/runs/a.db"
    assert absolute_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert absolute_uri("https://tracking.example", tmp_path) == "https://tracking.example"


def test_the_environment_names_the_store_unless_the_configuration_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    assert absolute_uri(None, tmp_path) == f"sqlite:///{tmp_path}/elsewhere.db"
    assert absolute_uri("sqlite:///here.db", tmp_path) == f"sqlite:///{tmp_path}/here.db"


@pytest.mark.parametrize("uri", ["sqlite:///:memory:", "sqlite://", "./mlruns", "file:///tmp/mlruns", "ftp://host/x"])
def test_what_is_no_database_or_server_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"^tracking: uri.*expected.*$"):
        absolute_uri(uri, tmp_path)


def test_an_error_shows_no_password() -> None:
    assert shown("postgresql://user:hunter2@db.example:5432/runs") == "postgresql://db.example:5432"


@pytest.mark.parametrize("folder", ["/proc", "file/within"])
def test_a_folder_that_cannot_be_written_is_one_line(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match=r"^tracking: \S+mlflow.db cannot be written \(.+\); .*tracking=off$"):
        TrackingStore.open(folder=tmp_path / folder)


def test_a_read_only_database_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:  # root may write to every file, so sqlite's words are given here
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    with pytest.raises(TrackingError, match=r"^tracking: \S+mlflow.db is read-only; .*$"):
        TrackingStore.open(folder=tmp_path)


def test_a_locked_database_is_one_line_and_does_not_hang(ready_database: Path, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(ready_database.read_bytes())
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(TrackingError, match=r"^tracking: \S+mlflow.db is locked by another process; .*$"):
            TrackingStore.open(folder=tmp_path, wait_seconds=0.1)
    finally:
        holder.close()


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("these are notes, and longer than a header of sqlite " * 10)
    with pytest.raises(TrackingError, match=r"^tracking: \S+ is not a database; .*$"):
        TrackingStore.open(folder=tmp_path)


def test_a_server_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(TrackingError, match=r"^tracking: http://127.0.0.1:9 does not answer; .*$"):
        TrackingStore.open("http://user:pass@127.0.0.1:9")


def test_artifacts_lie_beside_the_database(store: TrackingStore, tmp_path: Path) -> None:
    experiment = store.experiment("compose")
    assert client(store.uri).get_experiment(experiment).artifact_location == (tmp_path / "mlartifacts").as_uri()


def test_an_experiment_is_made_once(store: TrackingStore) -> None:
    assert store.experiment("compose") == store.experiment("compose")


def test_a_deleted_experiment_is_named(store: TrackingStore) -> None:
    client(store.uri).delete_experiment(store.experiment("compose"))
    with pytest.raises(TrackingError, match="'compose' is deleted"):
        store.experiment("compose")


def test_children_name_their_parent_and_kind(store: TrackingStore) -> None:
    experiment = store.experiment("compose")
    with store.start_run(experiment, name="curve", kind=RunKind.TRADEOFF) as parent:
        store.start_run(experiment, name="eps 1", parent_id=parent.run_id, tags={"trial": "0"}).finish(
            RunStatus.FINISHED
        )
    child, above = store.runs(experiment="compose")
    assert (child.name, child.kind, child.parent_id) == ("eps 1", "train", parent.run_id)
    assert (above.name, above.kind, above.parent_id) == ("curve", "tradeoff", None)
    assert [row.name for row in store.runs(kind=RunKind.TRADEOFF)] == ["curve"]


def test_the_login_of_who_ran_it_is_not_recorded(store: TrackingStore) -> None:
    run = store.start_run(store.experiment("compose"), name="a")
    info = client(store.uri).get_run(run.run_id)
    assert info.info.user_id in ("", "unknown")
    assert set(info.data.tags) == {"dp_train.kind", "mlflow.source.name", "mlflow.runName"}


def test_what_is_not_there_is_named(store: TrackingStore) -> None:
    with pytest.raises(TrackingError, match="no experiment 'nothing'"):
        store.runs(experiment="nothing")
    with pytest.raises(TrackingError, match="no run 0123"):
        store.resume_run("0123")
    run = store.start_run(store.experiment("compose"), name="a")
    with pytest.raises(TrackingError, match=f"run {run.run_id} has no {CONFIG_FILE}"):
        store.read_text(run.run_id, CONFIG_FILE)


def test_opening_a_store_sends_nothing_and_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from dp_train.tracking.store import TrackingStore;"
        "assert 'mlflow' not in sys.modules;"
        f"TrackingStore.open(folder=Path({str(tmp_path)!r})).runs();"
        "from mlflow.telemetry import get_telemetry_client;"
        "print(os.environ['MLFLOW_DISABLE_TELEMETRY'], get_telemetry_client(), 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["true", "None", "False"]
    assert "alembic" not in run.stderr
