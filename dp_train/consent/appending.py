"""Events on their way into the consent store, inside one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import sqlalchemy as sa

from dp_train.consent.events import ConsentEvent, EventState, denies, is_pseudonym, renews
from dp_train.consent.facts import microseconds, moment
from dp_train.consent.stored import Head, head_of, pseudonyms_of, tombstones_of
from dp_train.consent.tables import (
    COLUMNS,
    EVENTS,
    LINKS,
    ORGANISATIONS,
    TERMS_TABLE,
    TOMBSTONES,
    Row,
    body_of,
    check_terms,
    check_text,
    number_for,
    number_of,
    row_of,
    terms_text,
    tombstone_of,
)
from dp_train.errors import ConsentError, DataError
from dp_train.store.chain import row_hash
from dp_train.store.database import find_rows, insert_rows


class Fate(Enum):
    """What became of an event that was delivered."""

    NEW = "new"
    SAME = "same"
    """It was there already; nothing changed."""
    CONFLICT = "conflict"
    """Another event has its record_id: it was not stored, unless it denies; see `ConsentStore.append_in`."""
    SUPPRESSED = "suppressed"
    """Its person was erased, and it is no renewed consent from their own hand: it was not stored."""


class Batch:
    """Events on their way into the chain, inside one transaction."""

    def __init__(self, connection: sa.Connection, events: Sequence[ConsentEvent]) -> None:
        self._connection = connection
        self._events = events
        self._stored = microseconds(datetime.now(UTC))
        self._numbers: dict[str, bytes] = {}  # pseudonym → number
        self._fresh: dict[str, bytes] = {}  # of those, what has no row yet, with its salt
        self._known: dict[str, Row] = {}
        self._linked: dict[bytes, str] = {}  # number of a known event's person → pseudonym
        self._erased: dict[str, int] = {}  # pseudonym → since when

    def run(self) -> list[Fate]:
        texts = [self._checked(event) for event in self._events]
        self._look_up([event.record_id for event in self._events])
        fates: list[Fate] = []
        rows: list[tuple[Row, str, str]] = []
        denials: list[ConsentEvent] = []
        for event, text in zip(self._events, texts, strict=True):
            if self._is_suppressed(event):
                fates.append(Fate.SUPPRESSED)
                continue
            known = self._known.get(event.record_id)
            if known is None:
                row = self._row(event, text)
                self._known[event.record_id] = row
                rows.append((row, event.org_id, text))
                fates.append(Fate.NEW)
            elif self._is_same(known, event, text):
                fates.append(Fate.SAME)
            else:
                fates.append(Fate.CONFLICT)
                if denies(event):
                    denials.append(_renamed(event, text))
        self._write(rows)
        if denials:
            Batch(self._connection, denials).run()
        return fates

    def _checked(self, event: ConsentEvent) -> str:
        text = terms_text(event)
        check_text(f"{event.record_id}{event.evidence_ref}{event.org_id}")
        check_terms(text)
        if event.entity_id is not None and not is_pseudonym(event.entity_id):
            raise DataError(
                "consent event: entity_id is not a pseudonym; expected the 64 hex digits of PrincipalKey.pseudonym"
            )
        return text

    def _look_up(self, record_ids: list[str]) -> None:
        """What the store has of these records, of their people, and of the people in this batch."""
        for values in find_rows(self._connection, COLUMNS, EVENTS.c.record_id, record_ids):
            self._known[values[0]] = Row._make(values)
        numbers = {n for row in self._known.values() for n in (row.person, row.entity) if n is not None}
        self._linked = pseudonyms_of(self._connection, numbers)
        wanted = {
            name for event in self._events for name in (event.pii_principal_id, event.entity_id) if name is not None
        }
        names = [bytes.fromhex(name) for name in wanted]
        for name, number in find_rows(self._connection, (LINKS.c.pseudonym, LINKS.c.number), LINKS.c.pseudonym, names):
            self._numbers[bytes(name).hex()] = bytes(number)
        self._erased = tombstones_of(self._connection, wanted - self._numbers.keys())

    def _is_suppressed(self, event: ConsentEvent) -> bool:
        """Whether an event is about a person who was erased, and does not come from their own hand since.

        A no that is later than the tombstone moves it: whoever comes back has to say so after it.
        """
        name = event.pii_principal_id
        if name is None or name not in self._erased or name in self._numbers:
            return False
        since = self._erased[name]
        when = min(microseconds(event.event_time), microseconds(event.recorded_time), self._stored)
        if renews(event) and not denies(event) and since < when == microseconds(event.event_time):
            return False
        if denies(event) and when > since:
            self._erased[name] = when
            bury(self._connection, name, when, f"erasure-{secrets.token_hex(16)}", "a no after the erasure")
        return True

    def _number(self, pseudonym: str | None, *, acts: bool = False) -> bytes | None:
        """The number of a person, made where they have none; nobody's, for an erased one who only `acts`."""
        if pseudonym is None or (acts and pseudonym in self._erased and pseudonym not in self._numbers):
            return None
        if pseudonym not in self._numbers:
            salt = secrets.token_bytes(16)
            number = number_for(bytes.fromhex(pseudonym), salt)
            self._numbers[pseudonym], self._fresh[pseudonym] = number, salt
            self._linked[number] = pseudonym
        return self._numbers[pseudonym]

    def _row(self, event: ConsentEvent, text: str) -> Row:
        return row_of(
            event,
            person=self._number(event.pii_principal_id),
            entity=self._number(event.entity_id, acts=True),
            terms=number_of(text),
            stored=self._stored,
            salt=secrets.token_bytes(16),
        )

    def _is_same(self, known: Row, event: ConsentEvent, text: str) -> bool:
        # A link that is gone is not made anew by a second delivery: such people count as equal.
        for number, pseudonym in ((known.person, event.pii_principal_id), (known.entity, event.entity_id)):
            if (number is None) != (pseudonym is None):
                return pseudonym is not None and pseudonym in self._erased
            if number is not None and self._linked.get(number, pseudonym) != pseudonym:
                return False
        terms = number_of(text)
        if event.event_state is EventState.HELD and known.terms == terms:  # of one row, whenever it came
            return True
        return known.same_as(row_of(event, person=known.person, entity=known.entity, terms=terms, stored=0))

    def _write(self, rows: list[tuple[Row, str, str]]) -> None:
        if not rows:
            return
        texts = {row.terms: text for row, _, text in rows}
        names = {row.organisation: org_id for row, org_id, _ in rows}
        _add_missing(self._connection, TERMS_TABLE, texts)
        _add_missing(self._connection, ORGANISATIONS, names)
        fresh = ((bytes.fromhex(name), self._numbers[name], salt) for name, salt in self._fresh.items())
        insert_rows(self._connection, LINKS, fresh)
        insert_rows(self._connection, EVENTS, _chained(head_of(self._connection), rows))


def bury(connection: sa.Connection, pseudonym: str, at: int, record_id: str, reason: str) -> None:
    """Write a tombstone into the chain and into the table that is asked."""
    bury_digest(connection, tombstone_of(pseudonym), at, record_id, reason)


def bury_digest(connection: sa.Connection, digest: bytes, at: int, record_id: str, reason: str) -> None:
    """`bury` a person of whom only the tombstone's digest is known."""
    event = ConsentEvent.of_store(
        record_id,
        EventState.ERASED,
        at=moment(at),
        recorded=max(moment(at), datetime.now(UTC)),
        evidence_ref=digest.hex(),
        reason=reason,
    )
    Batch(connection, [event]).run()
    known = connection.execute(sa.select(TOMBSTONES.c.since).where(TOMBSTONES.c.digest == digest)).scalar()
    if known is None:
        insert_rows(connection, TOMBSTONES, [(digest, at)])
    elif at > known:
        connection.execute(TOMBSTONES.update().where(TOMBSTONES.c.digest == digest).values(since=at))


def _chained(head: Head, rows: Iterable[tuple[Row, str, str]]) -> Iterator[tuple[Any, ...]]:
    """Rows of the table, each with its place in the chain after `head` and its hash."""
    seq, previous = head.seq, head.event_hash
    for row, org_id, text in rows:
        seq += 1
        previous = row_hash(previous, seq, body_of(row, org_id, text))
        yield (seq, *row, bytes.fromhex(previous))


def _renamed(event: ConsentEvent, text: str) -> ConsentEvent:
    """The event under an id that follows from what it says, the same at every delivery."""
    row = row_of(event, person=None, entity=None, terms=number_of(text), stored=0)
    whose = f"{event.pii_principal_id} {event.entity_id}"
    content = row._replace(recorded_time=0, source_seq=0)
    return replace(event, record_id=f"{event.record_id}~{number_of(f'{whose} {tuple(content)}'):016x}")


def _add_missing(connection: sa.Connection, table: sa.Table, texts: Mapping[int, str]) -> None:
    """Add (number, text) rows that are not there yet.

    Raises:
      ConsentError: another text has the number, which SHA-256 does not let happen by chance.
    """
    column = next(column for column in table.c if column.name != "number")
    there: dict[int, str] = dict(find_rows(connection, (table.c.number, column), table.c.number, texts))
    if any(texts[number] != text for number, text in there.items()):
        raise ConsentError(f"consent store: {table.name} holds another text under one number; verify the store")
    insert_rows(connection, table, ((number, text) for number, text in texts.items() if number not in there))
