"""One client a process and store, and MLflow's many failures as one-line errors."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dp_train.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_DATABASES = ("postgresql", "mysql", "mssql")
_SERVERS = ("http", "https", "databricks")
_REMEDY = "choose another tracking.uri, or train without a tracker: tracking=off"


def absolute_uri(uri: str | None, folder: Path) -> str:
    """The one address of the store: `uri`, else MLFLOW_TRACKING_URI, else mlflow.db in `folder`.

    A relative sqlite path is taken from `folder`, so that every process of a sweep meets in one file.

    Raises:
      TrackingError: a folder of files, an in-memory database, or an unknown scheme.
    """
    given = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"
    scheme = given.partition(":")[0].partition("+")[0]
    if given.startswith(_SQLITE):
        path = given.removeprefix(_SQLITE)
        if path in ("", ":memory:"):
            raise TrackingError("tracking: uri names an in-memory database; expected a file: sqlite:///PATH")
        return f"{_SQLITE}{(folder / path).absolute()}"
    if scheme in _DATABASES or scheme in _SERVERS:
        return given
    raise TrackingError(
        f"tracking: uri={shown(given)!r} is no database or server; expected sqlite:///PATH, postgresql://… or http://…"
    )


def sqlite_path(uri: str) -> Path | None:
    """The database file of a sqlite address, None for the other stores."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def is_server(uri: str) -> bool:
    """Whether the store is somebody's MLflow server, which then also shows the UI."""
    return uri.partition(":")[0] in _SERVERS


def shown(uri: str) -> str:
    """The address as it may stand in an error: a file, or a URL without user and password."""
    path = sqlite_path(uri)
    if path is not None:
        return str(path)
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else uri


def make_ready(uri: str, *, wait_seconds: float) -> None:
    """Create the database where it is missing, one process at a time, and see that it can be written.

    MLflow migrates a missing database on first use; four processes that do it at once die. So it is done
    here under a file lock, and before anything is trained.
    """
    path = sqlite_path(uri)
    if path is None:
        if uri.startswith("http"):
            _see_that_server_answers(uri)
        with tracking_errors(uri):
            client(uri).search_experiments(max_results=1)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _see_that_database_can_be_written(path, wait_seconds)
            with tracking_errors(uri):
                client(uri).search_experiments(max_results=1)
    except OSError as error:
        raise TrackingError(f"tracking: {path} cannot be written ({error.strerror}); {_REMEDY}") from error


def _see_that_database_can_be_written(path: Path, wait_seconds: float) -> None:
    """MLflow waits 20 s for a locked file and logs a traceback with the values of the statement; ask sqlite first."""
    try:
        connection = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise TrackingError(f"tracking: {path} {_sqlite_trouble(str(error))}; {_REMEDY}") from error


def _see_that_server_answers(uri: str) -> None:
    """MLflow asks an absent server for four minutes; once and 10 s is enough to tell a user."""
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10).close()
    except urllib.error.HTTPError:
        return  # it answers; what it allows is found by the first real request
    except (OSError, ValueError) as error:
        raise TrackingError(f"tracking: {shown(uri)} does not answer; start the server, or {_REMEDY}") from error


@lru_cache(maxsize=8)
def _client(uri: str, process: int) -> MlflowClient:
    # A privacy tool calls nobody. MLflow reads this once, at its import.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A failed statement is logged with its values, which may hold sample texts; alembic tells every migration.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def client(uri: str) -> MlflowClient:
    """The client of this process; database connections do not survive a fork."""
    return _client(uri, os.getpid())


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Turns what MLflow, SQLAlchemy and the file system raise into a one-line `TrackingError` without content."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
            raise TrackingError(
                "tracking: a name or value was refused; names take letters, digits, space and _-./: up to 250, and "
                "values up to 6000 characters"
            ) from error
        if isinstance(error, OSError):
            trouble = f"cannot be written ({error.strerror or type(error).__name__})"
        elif "out-of-date database schema" in str(error):
            trouble = "was made by another MLflow version; back it up and run 'mlflow db upgrade', or"
        elif sqlite_path(uri) is not None:
            trouble = _sqlite_trouble(str(error))
        else:
            trouble = f"refused a request ({getattr(error, 'error_code', type(error).__name__)})"
        raise TrackingError(f"tracking: {shown(uri)} {trouble}; {_REMEDY}") from error


def _sqlite_trouble(message: str) -> str:
    """The kind of trouble; the message itself may hold values."""
    for words, trouble in (
        ("locked", "is locked by another process"),
        ("readonly", "is read-only"),
        ("unable to open", "cannot be opened"),
        ("not a database", "is not a database"),
        ("disk is full", "cannot grow: the disk is full"),
        ("disk I/O", "cannot be read or written: disk error"),
    ):
        if words in message:
            return trouble
    return "refused a request"
