"""What of a store's chain was verified before, so that a start walks only the events that came since.

    known = checkpoints.read()                           # before the transaction begins: the store only grows
    found, made = verify_since(connection, known, checkpoints.key)
    checkpoints.write(made)

Guarantee: a start accepts the events up to the checkpoint only if every column of every one of them, and every text
that they name, is byte for byte what it was when a walk along the whole chain accepted it, and the chain goes on from
there. An old event that was edited, moved, taken out or put in is noticed at the next start, as by the whole walk: the
rows are read and compared with a fingerprint (BLAKE2b of 256 bits under a key that is not in the database), and only
taking each apart and hashing it again is saved. Whoever writes the database and lacks the key cannot make rows that
fit. Links, tombstones and missing links are checked in full at every start.

| the checkpoint | the start |
|---|---|
| fits | walks the events after it |
| does not fit, and its last hash is still in its place | walks the whole chain; an erasure changes old rows |
| does not fit, and another hash is in that place, or none | refuses: an older copy, or a chain that was made anew |
| is missing, edited, of another store, address or version | walks the whole chain |
| cannot be made: there is no chain key (`store.chain_key`) | walks the whole chain |

Whoever takes the checkpoint away, or puts an older one back, makes a start slower and nothing else.
"""

from __future__ import annotations

import hmac
import json
import marshal
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from operator import itemgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dp_train.atomic import write_text
from dp_train.consent.integrity import links_of, verify_beside, verify_store
from dp_train.consent.stored import FETCH, Head, hash_of
from dp_train.consent.tables import EVENTS, ORGANISATIONS, SCHEMA, TERMS_TABLE
from dp_train.errors import StoreError
from dp_train.store.chain import Broken, Verified, canonical, verify_chain
from dp_train.store.chain_key import key_path, read_key
from dp_train.store.database import Database, find_rows, shown

VERSION = "1"
_COLUMNS = [column.name for column in EVENTS.c]
_TERMS, _ORGANISATION = (itemgetter(_COLUMNS.index(name)) for name in ("terms", "organisation"))
_HEADER = 5  # of a list in marshal's version 0: its type and its length, which would say where the rows were cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A start's proof to the next one. `fingerprint` is over the first `rows` events, `head` the hash of the last."""

    rows: int
    head: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where the checkpoint of one store lies, and the key that it is made under; None without a chain key."""

    path: Path
    key: bytes | None
    about: dict[str, str]

    @classmethod
    def of(cls, database: Database, store_id: str) -> Checkpoints:
        """Those of a store: a file beside its chain key.

        Raises:
          StoreError: the chain key is open to others, or is no key.
        """
        path = key_path(database.url)
        chain_key = read_key(path)
        key = None if chain_key is None else blake2b(b"dp_train consent checkpoint", key=chain_key).digest()
        about = {"version": VERSION, "schema": SCHEMA, "store": store_id, "address": shown(database.url)}
        return cls(path.with_name(f"consent-{store_id[:16]}.checkpoint"), key, about)

    def read(self) -> Checkpoint | None:
        """The checkpoint, if it is there and was made under the key for this store at this address."""
        if self.key is None:
            return None
        try:
            said = json.loads(self.path.read_text(encoding="utf-8"))
            seal = said.pop("seal")
            if (
                not hmac.compare_digest(seal, self._seal(said))
                or {name: said.pop(name) for name in self.about} != self.about
            ):
                return None
            return Checkpoint(**said)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, made: Checkpoint | None) -> None:
        """Keep a checkpoint, whole or not at all; where it cannot be written the next start walks further, no more."""
        if self.key is None or made is None:
            return
        said = {**self.about, **asdict(made)}
        with suppress(OSError):
            write_text(self.path, json.dumps({**said, "seal": self._seal(said)}, indent=2) + "\n", mode=0o600)

    def _seal(self, said: dict[str, Any]) -> str:
        return blake2b(b"seal\x00" + canonical(said), key=self.key or b"", digest_size=32).hexdigest()


class _Fingerprint:
    """Of the events that were added, in their order, whatever the pieces they came in, with the texts they name."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._rows = blake2b(b"rows\x00", key=key, digest_size=32)
        self._terms: set[int] = set()
        self._organisations: set[int] = set()

    def add(self, rows: list[tuple[Any, ...]]) -> None:
        # Version 0 of marshal writes equal values alike: no references, nothing interned; each with type and length.
        self._rows.update(memoryview(marshal.dumps(rows, 0))[_HEADER:])
        self._terms.update(map(_TERMS, rows))
        self._organisations.update(map(_ORGANISATION, rows))

    def value(self, connection: sa.Connection) -> str:
        total = blake2b(b"all\x00" + self._rows.digest(), key=self._key, digest_size=32)
        for table, numbers in ((TERMS_TABLE, self._terms), (ORGANISATIONS, self._organisations)):
            ordered = sorted(numbers)
            total.update(len(ordered).to_bytes(8, "big"))
            for at in range(0, len(ordered), FETCH):
                found = find_rows(connection, table.c, table.c.number, ordered[at : at + FETCH])
                total.update(marshal.dumps(sorted(map(tuple, found)), 0))
        return total.hexdigest()


def verify_since(
    connection: sa.Connection, known: Checkpoint | None, key: bytes | None
) -> tuple[Verified, Checkpoint | None]:
    """What the walk found, and the checkpoint for the next one; None where it did not hold, or nothing is new.

    Args:
      known: read before the transaction of `connection` began.
      key: `Checkpoints.key`; None walks the whole chain.
    """
    if key is None:
        return verify_store(connection), None
    fingerprint, before = _Fingerprint(key), None
    missing = 0 if known is None else known.rows
    for rows in _event_rows(connection):
        if known is not None and before is None and missing <= len(rows):
            fingerprint.add(rows[:missing])
            before = fingerprint.value(connection)
            rows = rows[missing:]
        missing -= len(rows)
        fingerprint.add(rows)
    if known is not None and known.rows and before is not None and hmac.compare_digest(before, known.fingerprint):
        links = (link for link, _ in links_of(connection, after=known.rows))
        found = verify_beside(connection, verify_chain(links, after=(known.rows, known.head)))
    else:
        found = verify_store(connection)
        if known is not None and known.rows and hash_of(connection, known.rows) != known.head:
            reason = f"row {known.rows} is not the one that an earlier start saw"
            found = Verified(known.rows - 1, found.head, Broken(known.rows, reason))
    if found.broken is not None:
        return found, None
    if known is not None and (known.rows, known.fingerprint) == (found.rows, before):
        return found, None
    return found, Checkpoint(rows=found.rows, head=found.head, fingerprint=fingerprint.value(connection))


def whole_head(
    connection: sa.Connection, known: Checkpoint | None, key: bytes | None
) -> tuple[Head, Checkpoint | None]:
    """The head of a store that verifies, and the checkpoint for the next start.

    Raises:
      StoreError: it does not verify.
    """
    found, made = verify_since(connection, known, key)
    if found.broken is not None:
        raise StoreError(
            f"consent chain: {found.broken.reason}; nothing is decided by a store that was changed: see "
            "dp-train consent verify, and restore it from a backup that verifies"
        )
    return Head(found.rows, found.head), made


def _event_rows(connection: sa.Connection) -> Iterator[list[tuple[Any, ...]]]:
    """All events in their order, as the driver gives them, some thousand in memory at a time."""
    query = f"SELECT {', '.join(_COLUMNS)} FROM {EVENTS.name} ORDER BY seq"
    found = connection.exec_driver_sql(query, execution_options={"stream_results": True})
    if connection.dialect.name != "sqlite":
        while rows := found.fetchmany(FETCH):
            yield [tuple(row) for row in rows]
        return
    cursor: Any = found.cursor  # its rows are tuples already: half the time of a start
    try:
        while plain := cursor.fetchmany(FETCH):
            yield plain
    except sqlite3.Error as error:
        raise sa.exc.DBAPIError.instance(
            query, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
        ) from error
