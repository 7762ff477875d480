"""Checks that a consent store is whole: its chain, whom events are about, tombstones, and the version of its tables."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from dp_train.consent.events import EventState
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.stored import Names, hash_of, stream, terms_in
from dp_train.consent.tables import (
    COLUMNS,
    EVENTS,
    FACTS,
    KEYS,
    LINKS,
    TOMBSTONES,
    Row,
    body_of,
    number_for,
)
from dp_train.errors import ConsentError, StoreError
from dp_train.store.chain import GENESIS, Broken, Link, Verified, verify_chain
from dp_train.store.database import Database


def refuse_old(connection: sa.Connection) -> None:
    inspector = sa.inspect(connection)
    if inspector.has_table(EVENTS.name) and "salt" not in {
        column["name"] for column in inspector.get_columns(EVENTS.name)
    }:
        raise StoreError(
            "consent store: made by an older version, whose events do not say whom they are about inside the hash; "
            "use that version to export its events, and import them into a new store"
        )


def has_store(database: Database) -> bool:
    """Return whether a database has the tables of a consent store; none is made."""
    with database.reading() as connection:
        return bool(sa.inspect(connection).has_table(FACTS.name))


def check_key(connection: sa.Connection, key: PrincipalKey) -> bool:
    """Whether the store knows its key, and it is this one."""
    known = connection.execute(sa.select(KEYS.c.population_id)).scalar()
    if known not in (None, key.population_id):
        raise ConsentError(
            "consent store: its pseudonyms were made under another key; give --key the file that the first import had"
        )
    return known is not None


def links_of(connection: sa.Connection, *, after: int = 0) -> Iterator[tuple[Link, int]]:
    names = Names(connection)
    previous = hash_of(connection, after) if after else GENESIS
    query = sa.select(EVENTS.c.seq, EVENTS.c.event_hash, *COLUMNS).where(EVENTS.c.seq > after).order_by(EVENTS.c.seq)
    for seq, digest, *values in stream(connection, query):
        row = Row(*values)
        found = bytes(digest).hex()
        yield (
            Link(seq, previous, found, body_of(row, names.organisation(row.organisation), names.text(row.terms))),
            (row.stored_time),
        )
        previous = found


def verify_store(connection: sa.Connection, expected_head: str | None = None) -> Verified:
    """The chain, and what stands beside it: links, tombstones, and that nobody was unlinked without an erasure."""
    found = verify_chain((link for link, _ in links_of(connection)), expected_head=expected_head)
    return verify_beside(connection, found)


def verify_beside(connection: sa.Connection, found: Verified) -> Verified:
    """What stands beside a chain that was walked: links, tombstones, and nobody unlinked without an erasure."""
    if found.broken is not None:
        return found
    for pseudonym, number, salt in stream(connection, sa.select(LINKS.c.pseudonym, LINKS.c.number, LINKS.c.salt)):
        if number_for(bytes(pseudonym), bytes(salt)) != bytes(number):
            query = sa.select(sa.func.min(EVENTS.c.seq)).where(EVENTS.c.person == number)
            seq = connection.execute(query).scalar() or 0
            return Verified(max(seq - 1, 0), found.head, Broken(seq, f"row {seq} was given to another person"))
    buried = buried_in(connection)
    latest: dict[bytes, int] = {}
    for digest, since in buried:
        latest[digest] = max(since, latest.get(digest, since))
    if {bytes(digest): since for digest, since in connection.execute(sa.select(TOMBSTONES))} != latest:
        return Verified(0, found.head, Broken(0, "the tombstones of people who were erased are not those of the chain"))
    if _unlinked(connection) > len(buried):
        return Verified(0, found.head, Broken(0, "the link of a person was taken out, and no erasure says so"))
    return found


def _unlinked(connection: sa.Connection) -> int:
    """How many people events are about who have no link."""
    joined = EVENTS.outerjoin(LINKS, LINKS.c.number == EVENTS.c.person)
    query = sa.select(sa.func.count(EVENTS.c.person.distinct())).select_from(joined)
    return int(connection.execute(query.where(EVENTS.c.person.is_not(None), LINKS.c.number.is_(None))).scalar() or 0)


def buried_in(connection: sa.Connection) -> list[tuple[bytes, int]]:
    """(digest, since) of every tombstone in the chain."""
    query = sa.select(EVENTS.c.evidence_ref, EVENTS.c.event_time)
    query = query.where(EVENTS.c.terms.in_(terms_in(connection, EventState.ERASED)))
    return [(bytes.fromhex(digest), since) for digest, since in connection.execute(query)]
