"""A store that moved with its working folder finds its files, and one that was copied leaves the first alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from dp_train.tracking.connection import client
from dp_train.tracking.registry import RESERVATION, register
from dp_train.tracking.store import TrackingStore


def filled(folder: Path, ready: Path) -> str:
    """A store with one run that has a file and a registered model; the run's id."""
    folder.mkdir()
    shutil.copy(ready, folder / "mlflow.db")
    store = TrackingStore.open("sqlite:///mlflow.db", folder=folder)
    run = client(store.uri).create_run(store.experiment("talks")).info.run_id
    (folder / "card.md").write_text("the card")
    client(store.uri).log_artifact(run, str(folder / "card.md"))
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    register(store, run, folder / "model", name="talks", alias=None, tags={RESERVATION: "r1"})
    return str(run)


def test_after_a_move_files_are_read_and_written_where_the_folder_lies_now(
    ready_database: Path, tmp_path: Path
) -> None:
    run = filled(tmp_path / "first", ready_database)
    shutil.move(tmp_path / "first", tmp_path / "second place")
    store = TrackingStore.open("sqlite:///mlflow.db", folder=tmp_path / "second place")
    assert store.read_text(run, "card.md") == "the card"
    (version,) = client(store.uri).search_model_versions("name = 'talks'")
    assert version.source.startswith(str(store.artifact_root))
    again = client(store.uri).create_run(store.experiment("talks")).info
    assert again.artifact_uri.startswith(str(store.artifact_root))
    assert not (tmp_path / "first").exists()


def test_a_copy_leaves_the_files_of_the_first_where_they_are(ready_database: Path, tmp_path: Path) -> None:
    run = filled(tmp_path / "first", ready_database)
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    before = TrackingStore.open("sqlite:///mlflow.db", folder=tmp_path / "first")
    there = client(before.uri).get_run(run).info.artifact_uri
    copy = TrackingStore.open("sqlite:///mlflow.db", folder=tmp_path / "copy")
    assert client(copy.uri).get_run(run).info.artifact_uri == there
    assert before.read_text(run, "card.md") == "the card"
