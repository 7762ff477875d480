"""One client a process and store, and MLflow's many failures as one-line errors."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dp_train.atomic import sweep, whole_file_of_others
from dp_train.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_DATABASES = ("postgresql", "mysql", "mssql")
_SERVERS = ("http", "https", "databricks")
_TIMEOUTS = {"postgresql": {"connect_timeout": 10}, "mysql": {"connect_timeout": 10}, "mssql": {"timeout": 10}}
ANSWER_SECONDS = 15.0
"""How long a store may take to answer whether it is there."""

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
        return _with_driver(given)
    raise TrackingError(
        f"tracking: uri={shown(given)!r} is no database or server; expected sqlite:///PATH, postgresql://… or http://…"
    )


def _with_driver(uri: str) -> str:
    """The address with the driver that is installed: SQLAlchemy takes psycopg2 for PostgreSQL unless it is named."""
    scheme, _, rest = uri.partition("://")
    if scheme == "postgresql" and find_spec("psycopg2") is None and find_spec("psycopg") is not None:
        return f"postgresql+psycopg://{rest}"
    return uri


def sqlite_path(uri: str) -> Path | None:
    """The database file of a sqlite address, None for the other stores."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def is_server(uri: str) -> bool:
    """Whether the store is an MLflow server of the user's, which then also shows the UI."""
    return uri.partition(":")[0] in _SERVERS


def shown(uri: str) -> str:
    """The address as it may stand in an error: a file, or a URL without user and password."""
    path = sqlite_path(uri)
    if path is not None:
        return str(path)
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else uri


def see(uri: str, *, wait_seconds: float) -> None:
    """Find out within `ANSWER_SECONDS` whether the store can be used; makes nothing.

    Raises:
      TrackingError: it cannot be written, does not answer, or lacks its driver.
    """
    path = sqlite_path(uri)
    if path is None:
        with tracking_errors(uri):
            _within(ANSWER_SECONDS, _ask_server if is_server(uri) else _ask_database, uri)
    elif path.exists():
        _see_that_database_can_be_written(path, min(wait_seconds, ANSWER_SECONDS))
    else:
        folder = next(parent for parent in path.parents if parent.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise TrackingError(f"tracking: {path} cannot be written; {_REMEDY}")


def make_ready(uri: str, *, wait_seconds: float) -> None:
    """Create the database where it is missing, one process at a time, and see that it can be written.

    MLflow migrates a missing database on first use; four processes that do it at once die. So it is done
    here under a lock, and before anything is trained.
    """
    path = sqlite_path(uri)
    if path is None:
        see(uri, wait_seconds=wait_seconds)
        with tracking_errors(uri), nullcontext() if is_server(uri) else _alone(uri):
            client(uri).search_experiments(max_results=1)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _make_database(path)
            _see_that_database_can_be_written(path, wait_seconds)
            with tracking_errors(uri):
                client(uri).search_experiments(max_results=1)
    except OSError as error:
        raise TrackingError(f"tracking: {path} cannot be written ({error.strerror}); {_REMEDY}") from error


def _make_database(path: Path) -> None:
    """Make MLflow's tables, all or none: it cannot open a file whose maker was killed between two migrations."""
    _quiet()
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    sweep(path.parent)
    with whole_file_of_others(path) as new:
        uri = f"{_SQLITE}{new}"
        with tracking_errors(uri):
            engine = create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
            try:
                _initialize_tables(engine)  # type: ignore[no-untyped-call]
            finally:
                engine.dispose()


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


def _within(seconds: float, ask: Callable[[str], None], uri: str) -> None:
    """Call `ask`, and give it up after `seconds`: names are resolved and hosts are tried for as long as systems like.

    The thread that is given up is a daemon's: it keeps no process alive.
    """
    raised: list[BaseException] = []

    def call() -> None:
        try:
            ask(uri)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True, name="tracking store")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TrackingError(f"tracking: {shown(uri)} does not answer within {seconds:g} s; start it, or {_REMEDY}")
    if raised:
        raise raised[0]


def _ask_server(uri: str) -> None:
    """Send one request by MLflow's own client: it knows certificates, tokens and proxies, and would try for minutes."""
    _quiet()
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    if not uri.startswith("http"):  # of Databricks the first request knows more
        return
    try:
        creds = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
        http_request(  # type: ignore[no-untyped-call]
            creds, "/health", "GET", timeout=10, max_retries=0, raise_on_status=False
        ).close()
    except (MlflowException, OSError, ValueError) as error:
        trouble = "has a certificate that is not trusted" if "CERTIFICATE_VERIFY" in str(error) else "does not answer"
        remedy = "set MLFLOW_TRACKING_SERVER_CERT_PATH" if "certificate" in trouble else "start the server"
        raise TrackingError(f"tracking: {shown(uri)} {trouble}; {remedy}, or {_REMEDY}") from error


def _ask_database(uri: str) -> None:
    """One connection, tried once; MLflow tries an absent database for two minutes."""
    import sqlalchemy as sa

    try:
        engine = sa.create_engine(uri, connect_args=_TIMEOUTS.get(_dialect(uri), {}))
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"tracking: no driver for {_dialect(uri)} is installed ({error.name}); pip install 'dp_train[postgres]' or "
            f"that package, or {_REMEDY}"
        ) from error
    try:
        with engine.connect():
            pass
    except sa.exc.OperationalError as error:
        raise TrackingError(
            f"tracking: {shown(uri)} does not answer or lets nobody in; start the database, or {_REMEDY}"
        ) from error
    finally:
        engine.dispose()


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Let one process at a time make the tables of a PostgreSQL; the others wait for it."""
    if _dialect(uri) != "postgresql":
        yield
        return
    import sqlalchemy as sa

    engine = sa.create_engine(uri, connect_args=_TIMEOUTS["postgresql"], isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:  # which holds the lock, and gives it back however it ends
            connection.execute(sa.text("SELECT pg_advisory_lock(hashtext('dp_train tracking'))"))
            yield
    finally:
        engine.dispose()


def _dialect(uri: str) -> str:
    return uri.partition(":")[0].partition("+")[0]


def _quiet() -> None:
    # A privacy tool calls nobody. MLflow reads this once, at its import.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A failed statement is logged with its values, which may hold sample texts; alembic tells every migration.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # A signal that ends the process while a connection is given back is told by the status, not by a traceback.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


@lru_cache(maxsize=8)
def _client(uri: str, process: int) -> MlflowClient:
    _quiet()
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
