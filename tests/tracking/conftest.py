"""A store of its own for each test."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dp_train.tracking.store import TrackingStore


@pytest.fixture(scope="session")
def ready_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's migrations take seconds: once a session, then copied."""
    folder = tmp_path_factory.mktemp("ready")
    TrackingStore.open("sqlite:///mlflow.db", folder=folder)
    return folder / "mlflow.db"


@pytest.fixture
def store(ready_database: Path, tmp_path: Path) -> TrackingStore:
    shutil.copy(ready_database, tmp_path / "mlflow.db")
    return TrackingStore.open("sqlite:///mlflow.db", folder=tmp_path)


@pytest.fixture(autouse=True)
def environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
