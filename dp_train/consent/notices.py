"""The texts that people agreed to, kept beside the events that name them by hash.

An event carries `notice_id`, `notice_version` and `notice_sha256`: which text a person read, not the text. Here the
text itself is kept, in the consent database, so that years later an officer can show what a hash stood for.

    keep(database, text)              # returns its SHA-256
    text_of(database, sha256)         # the same bytes, or None
    cited(store)                      # every notice that events name, and whether its text is here

A text is found by its SHA-256 alone and checked against it whenever it is read: it cannot be replaced.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from dp_train.consent.facts import microseconds
from dp_train.consent.store import LOCK, ConsentStore
from dp_train.errors import DataError, StoreError
from dp_train.store.database import Database, insert_rows

MOST_BYTES = 4 * 2**20
"""A notice is a text that a person read."""

_METADATA = sa.MetaData()
_NOTICES = sa.Table(
    "consent_notices",
    _METADATA,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("text", sa.LargeBinary, nullable=False),
    sa.Column("stored_time", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CitedNotice:
    """A notice as events name it. `events` counts those of people who are not erased; `kept`: its text is here."""

    notice_id: str
    version: int
    sha256: str
    events: int
    kept: bool


def keep(database: Database, text: bytes) -> str:
    """Keep the text of a notice and return its SHA-256; keeping it again changes nothing.

    Raises:
      DataError: it is empty, longer than `MOST_BYTES`, or no UTF-8.
    """
    if not text.strip() or len(text) > MOST_BYTES:
        raise DataError(
            f"consent notice: {len(text):,} bytes; expected the text that people read, 1 to {MOST_BYTES:,} bytes"
        )
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError("consent notice: not UTF-8; expected the text that people read, in UTF-8") from error
    digest = hashlib.sha256(text).hexdigest()
    database.create(_METADATA)
    with database.writing(LOCK) as connection:
        known = connection.execute(sa.select(_NOTICES.c.sha256).where(_NOTICES.c.sha256 == digest)).first()
        if known is None:
            insert_rows(connection, _NOTICES, [(digest, text, microseconds(datetime.now(UTC)))])
    return digest


def text_of(database: Database, sha256: str) -> str | None:
    """Return the text with this SHA-256, or None if it was never kept.

    Raises:
      StoreError: what is kept under it has another hash; it was edited.
    """
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(_NOTICES.name):
            return None
        query = sa.select(_NOTICES.c.text).where(_NOTICES.c.sha256 == sha256.lower())
        found = connection.execute(query).scalar()
    if found is None:
        return None
    if hashlib.sha256(bytes(found)).hexdigest() != sha256.lower():
        raise StoreError("consent notice: the text that is kept has another hash; restore the store from a backup")
    return bytes(found).decode("utf-8")


def cited(store: ConsentStore) -> list[CitedNotice]:
    """Every notice that events name, ordered by id and version; a version under two texts is two notices."""
    events: Counter[tuple[str, int, str]] = Counter()
    for terms, count in store.counts():
        if terms.get("notice_id") or terms.get("notice_sha256"):
            name, digest = terms.get("notice_id", ""), terms.get("notice_sha256", "").lower()
            events[name, int(terms.get("notice_version", 0)), digest] += count
    return [
        CitedNotice(notice_id=name, version=version, sha256=digest, events=count, kept=_is_kept(store, digest))
        for (name, version, digest), count in sorted(events.items())
    ]


def _is_kept(store: ConsentStore, sha256: str) -> bool:
    return bool(sha256) and text_of(store.database, sha256) is not None


__all__ = ["CitedNotice", "cited", "keep", "text_of"]
