"""The UI starts on loopback, or says in one line why not; the browser test sees it run."""

import socket
import sys

import pytest

from dp_train.errors import TrackingError
from dp_train.tracking.store import TrackingStore
from dp_train.tracking.ui import start_ui, ui_url

STORE = TrackingStore(uri="sqlite:////nowhere/mlflow.db", artifact_root="file:///nowhere")


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(TrackingError, match=rf"^ui: port {port} is taken; name another one: .*$"):
            start_ui(STORE, port=port)


def test_a_server_that_ends_at_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TrackingError, match=r"^ui: MLflow ended at start with code 1; .*$"):
        start_ui(STORE, port=None)


def test_a_tracking_server_shows_itself() -> None:
    store = TrackingStore(uri="https://tracking.example", artifact_root=None)
    with start_ui(store) as server:
        assert server.url("3") == ui_url("3", base="https://tracking.example")
        server.wait()  # nothing to wait for
