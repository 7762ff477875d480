"""The store on both databases: whole transactions, one writer at a time, one-line errors."""

import fcntl
import multiprocessing
from pathlib import Path

import pytest
import sqlalchemy as sa

from dp_train.errors import StoreError
from dp_train.store.database import Database, absolute_url, find_rows, insert_rows

METADATA = sa.MetaData()
COUNTER = sa.Table("counter", METADATA, sa.Column("value", sa.Integer, primary_key=True))


def _count(url: str, times: int) -> None:
    database = Database(url)
    database.create(METADATA)
    for _ in range(times):
        with database.writing("counter") as connection:
            last = connection.execute(sa.select(sa.func.max(COUNTER.c.value))).scalar() or 0
            connection.execute(COUNTER.insert().values(value=last + 1))
    database.close()


def test_writers_wait_for_each_other(store_url: str) -> None:
    url = absolute_url(store_url, Path("/"))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(url, 10)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    database = Database(url)
    with database.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(COUNTER)).scalar() == 40
    database.close()


_SHARED = 0x40000002, 510
"""The bytes of the file that SQLite locks for as long as a connection is open (its file format, os.h)."""


def _thinks_nobody_is_there(path: Path) -> None:
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED[1], _SHARED[0])
        except OSError:
            raise SystemExit(1) from None


def test_a_store_that_is_opened_again_keeps_the_locks_of_the_one_that_is_open(tmp_path: Path) -> None:
    # Without them another process that closes the store takes the write-ahead log away, and rows with it.
    path = tmp_path / "store.db"
    url = absolute_url(f"sqlite:///{path}", tmp_path)
    first = Database(url)
    first.create(METADATA)
    with first.reading() as connection:
        connection.execute(sa.select(COUNTER)).all()
        second = Database(url)
        other = multiprocessing.get_context("spawn").Process(target=_thinks_nobody_is_there, args=(path,))
        other.start()
        other.join()
    first.close()
    second.close()
    assert other.exitcode == 1


def test_failed_transaction_leaves_nothing(store_url: str) -> None:
    database = Database(absolute_url(store_url, Path("/")))
    database.create(METADATA)
    with pytest.raises(StoreError), database.writing("counter") as connection:
        connection.execute(COUNTER.insert(), [{"value": 1}, {"value": 1}])
    with database.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(COUNTER)).scalar() == 0
    database.close()


def test_locked_database_is_one_line(tmp_path: Path) -> None:
    url = absolute_url(f"sqlite:///{tmp_path / 'store.db'}", tmp_path)
    first, second = Database(url), Database(url, wait_seconds=0.05)
    with first.writing("a"), pytest.raises(StoreError, match="locked by another process"), second.writing("b"):
        pass
    first.close()
    second.close()


def test_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_text("this is a letter to somebody and no database at all" * 30)
    with pytest.raises(StoreError, match="no database of dp_train"):
        Database(absolute_url("sqlite:///store.db", tmp_path)).create(METADATA)


def test_server_that_is_not_there_is_one_line_without_password() -> None:
    database = Database(absolute_url("postgresql://someone:pass-phrase@127.0.0.1:1/x", Path("/")))
    with pytest.raises(StoreError, match="cannot be reached") as caught, database.reading():
        pass
    assert "pass-phrase" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/x", "store.db"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(StoreError):
        absolute_url(url, Path("/"))


def test_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    Database(absolute_url(f"sqlite:///{tmp_path / 'deep' / 'store.db'}", tmp_path)).create(METADATA)
    assert (tmp_path / "deep" / "store.db").stat().st_mode & 0o077 == 0


NOTES = sa.Table(
    "notes", METADATA, sa.Column("name", sa.Text, primary_key=True), sa.Column("body", sa.LargeBinary, nullable=True)
)


def test_rows_in_bulk_are_read_back_and_found(store_url: str) -> None:
    database = Database(absolute_url(store_url, Path("/")))
    database.create(METADATA)
    rows = [("a", bytes(range(256))), ("tab\tnew\nline\\ Ω 'q'", None), ("", b"")]
    with database.writing("notes") as connection:
        insert_rows(connection, NOTES, rows)
        insert_rows(connection, NOTES, [])
        insert_rows(connection, NOTES, ((f"n{number}", b"x") for number in range(3_000)))
    with database.reading() as connection:
        found = dict(find_rows(connection, NOTES.c, NOTES.c.name, [name for name, _ in rows]))
        assert {name: body if body is None else bytes(body) for name, body in found.items()} == dict(rows)
        assert [name for name, _ in find_rows(connection, NOTES.c, NOTES.c.body, [bytes(range(256))])] == ["a"]
        names = [f"n{number}" for number in range(-5, 3_000)]
        assert len(list(find_rows(connection, (NOTES.c.name,), NOTES.c.name, names))) == 3_000
        assert list(find_rows(connection, NOTES.c, NOTES.c.name, [])) == []
    database.close()


def test_a_row_in_bulk_that_is_there_already_is_one_line_and_leaves_nothing(store_url: str) -> None:
    database = Database(absolute_url(store_url, Path("/")))
    database.create(METADATA)
    with pytest.raises(StoreError, match="refused a statement") as refused, database.writing("notes") as connection:
        insert_rows(connection, NOTES, [("secret", b"x"), ("secret", b"y")])
    assert "secret" not in str(refused.value)
    with database.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(NOTES)).scalar() == 0
    database.close()
