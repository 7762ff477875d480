"""The rows of a ledger where they lie: one table in a store, a hash chain under a key that is not in it.

Rows are read whole, after their chain was verified, and only ever added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dp_train.errors import StoreError
from dp_train.privacy.ledger.lines import Book, read_book
from dp_train.store.chain import GENESIS, Link, Verified, canonical, row_hash, verify_chain
from dp_train.store.chain_key import key_path, open_key, read_key
from dp_train.store.database import Database

_LOCK = "ledger"
_METADATA = sa.MetaData()
_ROWS = sa.Table(
    "ledger",
    _METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("prev_hash", sa.String(64), nullable=False),
    sa.Column("row_hash", sa.String(64), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)


class Rows:
    """The rows in a database; every reading walks the hash chain.

    Raises, in every method:
      StoreError: the store cannot be used, or the chain is broken; the row is named.
    """

    def __init__(self, database: Database, *, key: Path | None = None) -> None:
        self.database = database
        self._key_path = key or key_path(database.url)
        database.create(_METADATA)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Hold the lock under which rows are read and added; one process at a time."""
        with self.database.writing(_LOCK) as connection:
            yield connection

    def book(self, *, until: str | None = None) -> Book:
        """Read all that the rows say, or those up to the one whose hash is `until`.

        Raises:
          StoreError: the chain is broken, or holds no such row.
        """
        with self.database.reading() as connection:
            return self.read(connection, until)

    def verify(self, *, expected_head: str | None = None) -> tuple[Verified, Book]:
        """Walk the chain; the book is empty where it is broken."""
        with self.database.reading() as connection:
            links = _links(connection)
        found = verify_chain(links, expected_head=expected_head, key=self._key(bool(links)))
        if found.broken is not None:
            return found, Book()
        return found, _book(links, found.head)

    def read(self, connection: sa.Connection, until: str | None = None) -> Book:
        """Read as `book` does, on a connection that holds the lock."""
        links = _links(connection)
        found = verify_chain(links, key=self._key(bool(links)))
        if found.broken is not None:
            raise StoreError(
                f"ledger: {found.broken.reason}; nothing is read from a broken ledger or written to it: "
                "see dp-train ledger verify, and restore the store from a backup"
            )
        last = next((link.seq for link in links if link.row_hash == until), None)
        if until is not None and last is None:
            raise StoreError(
                f"ledger: no row has the hash {until[:12]}; its end was cut off, or it is another ledger: "
                "see dp-train ledger verify --expect"
            )
        return _book(links[:last], until or found.head)

    def append(self, connection: sa.Connection, book: Book, bodies: Sequence[Mapping[str, Any]]) -> list[str]:
        """Add rows behind those of `book`, which was read under the same lock; returns their hashes."""
        previous, hashes = book.head or GENESIS, []
        recorded_at = datetime.now(UTC).isoformat(timespec="seconds")
        key = open_key(self._key_path) if not book.rows else self._key(True)
        for seq, body in enumerate(bodies, start=book.rows + 1):
            text = canonical({**body, "recorded_at": recorded_at})
            found = row_hash(previous, seq, text, key)
            connection.execute(_ROWS.insert().values(seq=seq, prev_hash=previous, row_hash=found, body=text.decode()))
            hashes.append(found)
            previous = found
        return hashes

    def _key(self, needed: bool) -> bytes:
        """The key of the chain's hashes, which lies outside the database.

        Raises:
          StoreError: there are rows, and the key that they were made under is missing.
        """
        key = read_key(self._key_path)
        if key is None and needed:
            raise StoreError(
                f"ledger: its key {self._key_path} is missing, so nobody can tell whether its rows are true; restore "
                "it, or name it in DP_TRAIN_LEDGER_KEY; a ledger of an older version has none: begin a new store"
            )
        return key or b""


def _links(connection: sa.Connection) -> list[Link]:
    rows = connection.execute(sa.select(_ROWS).order_by(_ROWS.c.seq))
    return [Link(row.seq, row.prev_hash, row.row_hash, row.body.encode()) for row in rows]


def _book(links: Sequence[Link], head: str) -> Book:
    return read_book(((link.seq, link.row_hash, link.body.decode()) for link in links), head=head)
