"""Rows of imports that are no events: each unread row is counted once, whatever file it comes in and however often."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

import sqlalchemy as sa

from dp_train.consent.facts import microseconds
from dp_train.consent.store import LOCK, ConsentStore
from dp_train.consent.tables import IMPORTS, UNREAD
from dp_train.store.database import find_rows, insert_rows


def note_unread(store: ConsentStore, contents: Iterable[bytes | None]) -> None:
    """Count unread rows that no import saw before; one whose content is None is new each time.

    Guarantee: the count is durable before any later row of the file is stored, and never too low: rows count as one
    only where their bytes, or the fields that could be read of them, are equal.
    """
    key = bytes.fromhex(store.store_id)
    digests = {
        secrets.token_bytes(16) if each is None else hashlib.blake2b(each, key=key, digest_size=16).digest()
        for each in contents
    }
    if not digests:
        return
    now = microseconds(datetime.now(UTC))
    with store.database.writing(LOCK) as connection:
        known = {bytes(digest) for (digest,) in find_rows(connection, (UNREAD.c.digest,), UNREAD.c.digest, digests)}
        insert_rows(connection, UNREAD, [(digest, now, 0) for digest in sorted(digests - known)])


def note_import(store: ConsentStore, *, rows: int, held: int, stopped: bool) -> None:
    """Keep that an import set rows aside, and when."""
    with store.database.writing(LOCK) as connection:
        number = connection.execute(sa.select(sa.func.max(IMPORTS.c.number))).scalar() or 0
        now = microseconds(datetime.now(UTC))
        insert_rows(connection, IMPORTS, [(number + 1, now, rows, held, 0, int(stopped))])


__all__ = ["note_import", "note_unread"]
