"""Starts MLflow's UI on the store, on this machine alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import FrameType, TracebackType
from typing import NoReturn

from dp_train.errors import TrackingError
from dp_train.tracking.connection import is_server
from dp_train.tracking.store import TrackingStore
from dp_train.tracking.view import experiment_path

DEFAULT_PORT = 5000
_HOST = "127.0.0.1"
_STARTS_WITHIN = 90.0


def ui_url(experiment_id: str, *, base: str = f"http://{_HOST}:{DEFAULT_PORT}") -> str:
    """The full address that opens the saved view "Utility vs. ε" at the first click."""
    return base.rstrip("/") + experiment_path(experiment_id)


class UiServer:
    """A running UI. A context manager; on leaving it the server is stopped, if this process started it."""

    def __init__(self, base: str, process: subprocess.Popen[bytes] | None) -> None:
        self.base = base
        self._process = process

    def __enter__(self) -> UiServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def url(self, experiment_id: str) -> str:
        """`ui_url` on this server."""
        return ui_url(experiment_id, base=self.base)

    def wait(self) -> None:
        """Serve until Ctrl-C or SIGTERM, then stop. Call it from the main thread."""
        if self._process is None:
            return

        def leave(number: int, frame: FrameType | None) -> NoReturn:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, leave)
        try:
            self._process.wait()
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, before)
            self.stop()

    def stop(self) -> None:
        """End the server and its workers."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)  # its own session: the group holds its workers, nobody else
                self._process.wait(timeout=5)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._process = None


def start_ui(store: TrackingStore, *, port: int | None = DEFAULT_PORT) -> UiServer:
    """Start the UI and wait until it answers; a store that is an MLflow server shows itself.

    It listens on the loopback address alone and calls nobody.

    Args:
      port: None takes a free one.

    Raises:
      TrackingError: the port is taken, or the server does not come up.
    """
    if is_server(store.uri):
        return UiServer(store.uri, None)
    chosen = _free_port() if port is None else port
    if _taken(chosen):
        raise TrackingError(f"ui: port {chosen} is taken; name another one: dp-train ui --port N")
    command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(chosen), "--workers", "1"]
    environment = {
        **os.environ,
        # By the environment, not by an option: an address may hold a password, and `ps` shows options.
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(store.artifact_root),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = UiServer(f"http://{_HOST}:{chosen}", process)
    try:
        _wait_until_it_answers(server.base, process)
    except BaseException:
        server.stop()
        raise
    return server


def _wait_until_it_answers(base: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise TrackingError(
                f"ui: MLflow ended at start with code {process.returncode}; try 'mlflow server' to see why"
            )
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TrackingError(f"ui: no answer within {_STARTS_WITHIN:.0f} s; the machine may be busy, try again")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return True
    return False
