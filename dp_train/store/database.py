"""Opens the database, gives transactions that one process at a time may write in, and one-line errors.

SQLite is opened in WAL mode with full synchronisation: what was committed survives a power cut. A
writing transaction takes the lock when it begins, so that what it read is still true when it writes.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from dp_train.errors import StoreError

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql", "postgres")
_WRITES = "dp_train_writes"
DEFAULT_FILE = "dp_train.db"


def absolute_url(url: str | None, folder: Path) -> str:
    """The one address: `url`, else DP_TRAIN_STORE, else the project's dp_train.db.

    The project's is the nearest one from `folder` upwards, as git finds its own; where there is none, it is to be made
    in `folder`. Relative paths in a URL belong to `folder`.

    Raises:
      StoreError: an in-memory database or an unknown scheme.
    """
    given = url or os.environ.get("DP_TRAIN_STORE")
    if not given:
        return f"{_SQLITE}{file_above(folder) or (folder / DEFAULT_FILE).absolute()}"
    if given.startswith(_SQLITE):
        path = given.removeprefix(_SQLITE)
        if path in ("", ":memory:"):
            raise StoreError("store: url names an in-memory database; expected a file: sqlite:///PATH")
        return f"{_SQLITE}{(folder / path).absolute()}"
    scheme, _, rest = given.partition("://")
    if scheme.partition("+")[0] in _POSTGRES and rest:
        return f"postgresql+psycopg://{rest}"
    raise StoreError(f"store: url={shown(given)!r} is no database; expected sqlite:///PATH or postgresql://…")


def file_above(folder: Path) -> Path | None:
    """The nearest dp_train.db in `folder` or above it; None where there is none."""
    here = folder.absolute()
    return next((path for each in (here, *here.parents) if (path := each / DEFAULT_FILE).is_file()), None)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite address; None for a server."""
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


def shown(url: str) -> str:
    """The address as it may stand in an error: a file, or a URL without user, password and parameters."""
    if url.startswith(_SQLITE):
        return url.removeprefix(_SQLITE)
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else url


class Database:
    """A store that is open: `reading` and `writing` give connections inside one transaction.

    Args:
      url: as `absolute_url` gives it. A missing SQLite file is created, with access for its owner alone.
      wait_seconds: how long to wait for another process that writes.

    Raises:
      StoreError: the store cannot be reached or created.
    """

    def __init__(self, url: str, *, wait_seconds: float = 60.0) -> None:
        self.url = url
        self._wait = wait_seconds
        if url.startswith(_SQLITE):
            with self._errors():
                _create(Path(url.removeprefix(_SQLITE)))
        try:
            self._engine = sa.create_engine(url, **self._options())
        except ModuleNotFoundError as error:
            raise StoreError(
                "store: no driver for PostgreSQL is installed; pip install 'dp_train[postgres]'"
            ) from error
        if self.is_sqlite:
            sa.event.listen(self._engine, "connect", self._prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith(_SQLITE)

    def create(self, metadata: sa.MetaData) -> None:
        """Make the tables that are missing; processes that do it at once wait for each other."""
        with self.writing("schema") as connection:
            metadata.create_all(connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the store and waits for nobody."""
        with self._errors():
            engine = self._engine
            if not self.is_sqlite:
                engine = engine.execution_options(isolation_level="REPEATABLE READ")
            with engine.connect() as connection, connection.begin():
                yield connection

    @contextmanager
    def writing(self, lock: str) -> Iterator[sa.Connection]:
        """A transaction that commits as a whole or leaves nothing, one at a time for each `lock`.

        On SQLite there is one writer whatever the lock's name; on PostgreSQL it is an advisory lock of the
        transaction, so that readers and writers of other names go on.
        """
        with self._errors():
            engine = self._engine.execution_options(**{_WRITES: True})
            with engine.connect() as connection, connection.begin():
                if not self.is_sqlite:
                    number = int.from_bytes(
                        hashlib.sha256(f"dp_train {lock}".encode()).digest()[:8], "big", signed=True
                    )
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})
                yield connection

    def backup(self, target: Path) -> None:
        """Copy a SQLite store into a new file while others write, by SQLite's own online backup.

        A copy of the file alone would lack what is in the write-ahead log.

        Raises:
          StoreError: it is PostgreSQL, or the file exists or cannot be written.
        """
        if not self.is_sqlite:
            raise StoreError(f"store: {shown(self.url)} is PostgreSQL; back it up by its own tools, such as pg_dump")
        if target.exists():
            raise StoreError(f"store: {target} exists already; choose a new file for the backup")
        with self._errors():
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            source = self._engine.raw_connection()
            try:
                copy = sqlite3.connect(temporary)
                try:
                    driver: Any = source.driver_connection
                    driver.backup(copy)
                    copy.execute("PRAGMA journal_mode=DELETE")
                finally:
                    copy.close()
                temporary.replace(target)
            finally:
                source.close()
                temporary.unlink(missing_ok=True)

    def scrub(self, table: str) -> None:
        """After rows of a table were deleted: let no page of the database keep what they held.

        SQLite overwrites deleted rows (`secure_delete`) and the write-ahead log is emptied here. PostgreSQL gives
        the rows' space free; what its write-ahead log, replicas and backups keep is for their retention to end.
        """
        with self._errors():
            if self.is_sqlite:
                connection = self._engine.raw_connection()
                try:
                    connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    connection.close()
                return
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
                plain.execute(sa.text(f"VACUUM {table}"))

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def _options(self) -> dict[str, Any]:
        if self.url.startswith(_SQLITE):
            return {"connect_args": {"timeout": self._wait}}
        milliseconds = int(self._wait * 1000)
        return {
            "pool_pre_ping": True,
            "connect_args": {"connect_timeout": 10, "options": f"-c lock_timeout={milliseconds}"},
        }

    def _prepare_sqlite(self, connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver would begin on its own, and too late
        connection.execute(f"PRAGMA busy_timeout={int(self._wait * 1000)}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA cache_size=-65536")  # 64 MiB: indices of millions of rows are written at random

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Failures of the database as one line; the message of the driver may hold values of a row."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise StoreError(f"store: {shown(self.url)} {_why(error)}") from error
        except OSError as error:
            raise StoreError(
                f"store: {shown(self.url)} cannot be used ({error.strerror}); choose another store.url"
            ) from error


_ASK = 2_000  # values in one question


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert whole rows, values in the order of the table's columns, as fast as the database takes them.

    PostgreSQL takes them by COPY, during which the connection answers nothing else: making a row must ask nothing.
    """
    names = ", ".join(column.name for column in table.columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(table.columns))
        if values := list(rows):
            connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", values)
        return
    import psycopg

    statement = f"COPY {table.name} ({names}) FROM STDIN"
    try:
        driver: Any = connection.connection
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        raise sa.exc.DBAPIError.instance(
            statement, None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
        ) from error


def find_rows(
    connection: sa.Connection, columns: Iterable[sa.Column[Any]], where: sa.Column[Any], values: Collection[Any]
) -> Iterator[tuple[Any, ...]]:
    """Rows of one table in which a column has one of the values, by the driver alone: a value costs no expression."""
    sqlite = connection.dialect.name == "sqlite"
    select = f"SELECT {', '.join(column.name for column in columns)} FROM {where.table} WHERE {where.name}"
    ordered = iter(values)
    while part := tuple(islice(ordered, _ASK)):
        if sqlite:
            found = connection.exec_driver_sql(f"{select} IN ({', '.join('?' * len(part))})", part)
        else:
            found = connection.exec_driver_sql(f"{select} = ANY(%s)", (list(part),))
        for row in found:
            yield tuple(row)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Only where it is not there: closing any handle of a file drops the locks that SQLite holds on it in this process
    # (POSIX), and another process may then take away the write-ahead log that is still written to.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _why(error: sa.exc.DBAPIError) -> str:
    text = str(error.orig).lower()
    if "database is locked" in text or "lock timeout" in text or "lock_timeout" in text:
        return "is locked by another process; wait for it to end, then repeat the command"
    if "disk is full" in text or "no space" in text or "disk i/o" in text:
        return "cannot be written: the disk is full; free space, then repeat the command; nothing was half-written"
    if "not a database" in text or "malformed" in text:
        return "is no database of dp_train, or is damaged; choose another store.url, or restore it from a backup"
    if "readonly" in text or "unable to open" in text:
        return "cannot be written; check its permissions, or choose another store.url"
    if "password authentication" in text or "no password" in text:
        return "refused the login; check user and password of store.url"
    if isinstance(error, sa.exc.OperationalError):
        return "cannot be reached; check store.url, that the server runs, and that it has that database"
    return f"refused a statement ({type(error.orig).__name__}); run again with --debug to see it"
