"""Starts MLflow's UI on the store, on this machine alone."""

from __future__ import annotations

import errno
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
LOOPBACK = "127.0.0.1"
_EVERY = "0.0.0.0"
_STARTS_WITHIN = 90.0


def ui_url(experiment_id: str, *, base: str = f"http://{LOOPBACK}:{DEFAULT_PORT}") -> str:
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


def start_ui(store: TrackingStore, *, port: int | None = DEFAULT_PORT, host: str = LOOPBACK) -> UiServer:
    """Start the UI and wait until it answers; a store that is an MLflow server shows itself.

    It listens on the loopback address alone, unless another is given, and calls nobody. MLflow asks for no password:
    on another address everyone who reaches the port reads and changes the store.

    Args:
      port: None takes a free one. host: an address of this machine; 0.0.0.0 is all of them.

    Raises:
      TrackingError: the port is taken, or the server does not come up.
    """
    if is_server(store.uri):
        return UiServer(store.uri, None)
    chosen = _free_port(host) if port is None else port
    if _taken(chosen, host):
        raise TrackingError(f"ui: port {chosen} is taken; name another one: dp-train ui --port N")
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(chosen), "--workers", "1"]
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
    shown = LOOPBACK if host == _EVERY else host
    server = UiServer(f"http://{f'[{shown}]' if ':' in shown else shown}:{chosen}", process)
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


def _free_port(host: str) -> int:
    with _socket(host) as probe:
        _bind(probe, host, 0)
        return int(probe.getsockname()[1])


def _taken(port: int, host: str) -> bool:
    """Return whether another process has the port.

    Raises:
      TrackingError: this machine has no such address.
    """
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return not _bind(probe, host, port)


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)


def _bind(probe: socket.socket, host: str, port: int) -> bool:
    try:
        probe.bind((host, port))
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise TrackingError(
                f"ui: --host {host} is no address of this machine; expected one, such as {LOOPBACK} or {_EVERY}"
            ) from None
        return False
    return True
