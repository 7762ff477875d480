"""What tests of several rooms share: the databases that a store can live in."""

import functools
import gc
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from dp_train.tracking import connection

# A loaded machine is not a failing law.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a test asks for another machine: it would wait for one, and say something else where there is one."""
    true = socket.getaddrinfo

    def local(host: object, *rest: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        here = name in (None, "", "localhost", "::1", "0.0.0.0", socket.gethostname())
        if not here and not str(name).startswith("127."):
            raise AssertionError(f"a test asks for {name}; expected this machine alone")
        return true(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", local)


@pytest.fixture(scope="session", autouse=True)
def _tracking_tables_made_once() -> Iterator[None]:
    """Run MLflow's 63 migrations once a process; every other new SQLite store gets a copy of what they made."""
    made = sqlite3.connect(":memory:", check_same_thread=False)
    client_of = connection._client.__wrapped__

    def upgrade(true: Any, engine: Any) -> None:
        if engine.dialect.name != "sqlite":
            true(engine)
            return
        borrowed = engine.raw_connection()
        try:
            new: sqlite3.Connection = borrowed.driver_connection
            if made.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                true(engine)
                new.backup(made)
            else:
                made.backup(new)
        finally:
            borrowed.close()

    def client(uri: str, process: int) -> Any:
        connection._quiet()
        from mlflow.store.db import utils

        if not isinstance(utils._upgrade_db, functools.partial):
            utils._upgrade_db = functools.partial(upgrade, utils._upgrade_db)
            utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)
        return client_of(uri, process)

    connection._client = functools.lru_cache(maxsize=8)(client)
    yield
    made.close()


@pytest.fixture(autouse=True)
def _imports_out_of_the_collector() -> Iterator[None]:
    """Take what imports left out of garbage collection, so that a run that collects looks at its own objects alone."""
    before = len(sys.modules)
    yield
    if len(sys.modules) > before + 100:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Address of a PostgreSQL that runs on loopback while the tests do; Debian's own, started here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        if os.environ.get("CI"):
            pytest.fail("no PostgreSQL: apt-get install postgresql")
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    binaries = found[-1]
    as_user: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="dp_train-postgres-"))
    if os.getuid() == 0:  # it refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(*words: str) -> None:
        subprocess.run([*as_user, *words], check=True, capture_output=True, cwd="/")

    data = str(folder / "data")
    call(str(binaries / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")
    options = (
        f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=60 -c fsync=off"
    )
    call(str(binaries / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}"
    finally:
        call(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty database for one test, whose keys and checkpoints lie in the test's folder and not in the checkout."""
    import psycopg

    monkeypatch.setenv("DP_TRAIN_LEDGER_KEY", str(tmp_path / "runs" / "ledger.key"))

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{postgres_server}/{name}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return str(request.getfixturevalue("postgres_url"))
