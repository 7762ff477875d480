"""The consent store: an append-only chain of events in a database, and who they are about beside it.

**People and the chain.** An event carries a random number; `principal_links` maps a person's pseudonym (HMAC under a
key that is a file of its own) to it. The chain's hashes are over the number. `unlink` deletes the link of one
person: their events stay, verify, and lead nowhere. Destroying the key does the same for everyone. Events that are
read again, and snapshots, carry pseudonyms as files of events do, so gate, registry and units know one kind of id;
events of somebody who was unlinked are in neither.

**Appending.** Every writer takes the lock `LOCK`. One event, or a few with other rows beside them:

    store.append(event)                                        # a transaction of its own

    with store.database.writing(LOCK) as connection:           # or together with rows of your own tables
        fate, = store.append_in(connection, [event])
        connection.execute(RECEIPTS.insert(), …)

Leave `seq` at 0; the store numbers events itself.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from dp_train.consent.decisions import BEGIN, END, ConsentRules, Fact, visible
from dp_train.consent.events import CollectionMethod, ConsentEvent, is_pseudonym
from dp_train.consent.facts import Terms, Vocabulary, fact_of, microseconds, moment, terms_of
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.snapshot import ConsentSnapshot, freeze, organisation_cells, organisation_key, pack_cells
from dp_train.consent.tables import (
    COLUMNS,
    EVENTS,
    KEYS,
    LINKS,
    METADATA,
    ORGANISATIONS,
    TERMS_TABLE,
    Row,
    body_of,
    check_terms,
    check_text,
    event_of,
    number_of,
    row_of,
    terms_text,
)
from dp_train.errors import ConsentError, DataError
from dp_train.store.chain import GENESIS, Link, Verified, row_hash, verify_chain
from dp_train.store.database import Database, find_rows, insert_rows

LOCK = "consent"
"""The lock of `Database.writing` that every writer of consent takes."""

_FETCH = 5_000  # rows in memory at a time
_PERSON, _ORGANISATION = attrgetter("person"), attrgetter("organisation")


class Fate(Enum):
    """What became of an event that was delivered."""

    NEW = "new"
    SAME = "same"
    """It was there already; nothing changed."""
    CONFLICT = "conflict"
    """Another event has its record_id: it was not stored, unless it denies; see `ConsentStore.append_in`."""


@dataclass(frozen=True, slots=True)
class Head:
    """End of the chain: how many events, and the hash of the last."""

    seq: int
    event_hash: str


def denies(event: ConsentEvent) -> bool:
    """Whether an event can only deny: by its state, or as a GPC signal."""
    return not event.event_state.grants or event.collection_method is CollectionMethod.GPC_SIGNAL


class ConsentStore:
    """Every consent event that was delivered, in a database (CONSENT.md §Records).

    Guarantee: events are only ever added, each whole or not at all, each record id once; every one is linked to
    the one before it by a hash; writers of several processes come one after the other.

    Args:
      database: its tables are made where they are missing.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        database.create(METADATA)

    def bind(self, key: PrincipalKey) -> None:
        """Note under which key pseudonyms are made, once and for all.

        Under another key the same person is somebody else, so a withdrawal would reach nobody.

        Raises:
          ConsentError: the store's pseudonyms were made under another key.
        """
        with self.database.writing(LOCK) as connection:
            if not _check_key(connection, key):
                connection.execute(KEYS.insert().values(population_id=key.population_id))

    def append(self, event: ConsentEvent) -> Fate:
        """Store one event, durably, in a transaction of its own; see `append_in`."""
        with self.database.writing(LOCK) as connection:
            return self.append_in(connection, [event])[0]

    def append_in(self, connection: sa.Connection, events: Sequence[ConsentEvent]) -> list[Fate]:
        """Store events in a transaction of `database.writing(LOCK)`; what became of each, in order.

        The same event delivered again is SAME and changes nothing, also when it was recorded at another time or
        its person was unlinked. A different event under a known record id is a CONFLICT and is not stored; where it
        denies, it is stored under an id of its own (`record_id~hash`), for a denial must not get lost.

        Raises:
          DataError: an event cannot be kept: a text with a NUL, or an `entity_id` that is no pseudonym. Nothing
            is stored.
        """
        return _Batch(connection, events).run()

    def unlink(self, connection: sa.Connection, pseudonym: str) -> bool:
        """Delete the link between a person and their events, in a transaction of `database.writing(LOCK)`.

        The chain still verifies. Whether there was such a link.
        """
        where = LINKS.c.pseudonym == bytes.fromhex(pseudonym)
        return connection.execute(LINKS.delete().where(where)).rowcount > 0

    def is_linked(self, pseudonym: str) -> bool:
        """Whether there are events that lead to this person."""
        with self.database.reading() as connection:
            query = sa.select(LINKS.c.number).where(LINKS.c.pseudonym == bytes.fromhex(pseudonym))
            return connection.execute(query).first() is not None

    def head(self) -> Head:
        """The end of the chain."""
        with self.database.reading() as connection:
            return self.head_in(connection)

    def head_in(self, connection: sa.Connection) -> Head:
        """The end of the chain, as a transaction sees it."""
        return _head(connection)

    def last_stored(self) -> datetime | None:
        """When the store took its last event; None where it holds none."""
        with self.database.reading() as connection:
            found = connection.execute(sa.select(sa.func.max(EVENTS.c.stored_time))).scalar()
        return None if found is None else moment(found)

    def counts(self) -> Iterator[tuple[Mapping[str, Any], int]]:
        """(terms as JSON has them, how many stored events say so), without events of people who were unlinked."""
        linked = sa.or_(EVENTS.c.person.is_(None), LINKS.c.number.is_not(None))
        joined = EVENTS.outerjoin(LINKS, LINKS.c.number == EVENTS.c.person)
        query = sa.select(EVENTS.c.terms, sa.func.count()).select_from(joined).where(linked).group_by(EVENTS.c.terms)
        with self.database.reading() as connection:
            names = _Names(connection)
            yield from ((names.terms(number), count) for number, count in connection.execute(query).all())

    def events(self, *, pseudonym: str | None = None, upto: int | None = None) -> Iterator[ConsentEvent]:
        """Stored events in the order of the chain, as a stream; `seq` is that of the file they came from.

        Args:
          pseudonym: of one person; None for everyone's and the organisations'. Unlinked people's are left out.
          upto: only the first so many of the chain.
        """
        query = sa.select(*COLUMNS, LINKS.c.pseudonym).join(LINKS, LINKS.c.number == EVENTS.c.person, isouter=True)
        if pseudonym is not None:
            query = query.where(LINKS.c.pseudonym == bytes.fromhex(pseudonym))
        if upto is not None:
            query = query.where(EVENTS.c.seq <= upto)
        with self.database.reading() as connection:
            names = _Names(connection)
            found = _stream(connection, query.order_by(EVENTS.c.seq))
            while batch := list(islice(found, _FETCH)):
                entities = _pseudonyms(connection, {each.entity for each in batch if each.entity is not None})
                for *values, linked in batch:
                    row = Row(*values)
                    if row.person is not None and linked is None:
                        continue
                    yield event_of(
                        row,
                        principal=None if linked is None else bytes(linked).hex(),
                        entity=None if row.entity is None else entities.get(row.entity),
                        org_id=names.organisation(row.organisation),
                        terms=names.terms(row.terms),
                    )

    def snapshot(
        self,
        *,
        as_of: datetime,
        known_at: datetime | None = None,
        upto: int | None = None,
        rules: ConsentRules | None = None,
        key: PrincipalKey,
    ) -> ConsentSnapshot:
        """Every decision, frozen: that of `ConsentRegistry(store.events(), …)`, in the memory of the result alone.

        Args:
          as_of, known_at: as `ConsentRegistry.snapshot` takes them.
          upto: only the first so many events of the chain: with `Head.seq` of an earlier day, what the store held
            then, whatever recorded times were delivered since. Unlinked people are missing all the same.

        Raises:
          ConsentError: the store's pseudonyms were made under another key; everybody would be unknown.
        """
        rules = rules or ConsentRules()
        at, known = microseconds(as_of), END if known_at is None else microseconds(known_at)
        with self.database.reading() as connection:
            _check_key(connection, key)
            last = _head(connection).seq
            last = last if upto is None else min(upto, last)
            facts = _Facts(connection, rules, last)
            judge = facts.words.judge(at)
            same: dict[bytes, bytes] = {}
            people: dict[bytes, bytes] = {}
            for pseudonym, history in facts.people():
                cells = pack_cells(judge.cells(visible(history, as_of=at, known_at=known)))
                if cells:
                    people[pseudonym] = same.setdefault(cells, cells)
            organisations: dict[bytes, bytes] = {}
            for org_id, history in facts.organisations():
                limits = rules.organisations.get(org_id)
                cells = organisation_cells(judge, visible(history, as_of=at, known_at=known), limits)
                if cells:
                    organisations[organisation_key(org_id)] = cells
        moment_known = moment(max(at, facts.last_recorded) if known_at is None else known)
        return freeze(
            as_of=as_of, known_at=moment_known, key=key, people=people, organisations=organisations, upto=last
        )

    def links(self) -> Iterator[tuple[Link, int]]:
        """The chain as it was stored, each link with when the store took it (µs), as a stream."""
        with self.database.reading() as connection:
            names = _Names(connection)
            previous = GENESIS
            query = sa.select(EVENTS.c.seq, EVENTS.c.event_hash, *COLUMNS).order_by(EVENTS.c.seq)
            for seq, digest, *values in _stream(connection, query):
                row = Row(*values)
                found = bytes(digest).hex()
                body = body_of(row, names.organisation(row.organisation), names.text(row.terms))
                yield Link(seq, previous, found, body), row.stored_time
                previous = found

    def verify(self, *, expected_head: str | None = None) -> Verified:
        """Walk the chain; names the first event that was changed, moved or taken out.

        Args:
          expected_head: a hash that was kept elsewhere, which the chain must pass through.
        """
        return verify_chain((link for link, _ in self.links()), expected_head=expected_head)


class _Batch:
    """Events on their way into the chain, inside one transaction."""

    def __init__(self, connection: sa.Connection, events: Sequence[ConsentEvent]) -> None:
        self._connection = connection
        self._events = events
        self._stored = microseconds(datetime.now(UTC))
        self._numbers: dict[str, int] = {}  # pseudonym → number
        self._fresh: dict[str, int] = {}  # of those, what has no row yet
        self._known: dict[str, Row] = {}
        self._linked: dict[int, str] = {}  # number of a known event's person → pseudonym

    def run(self) -> list[Fate]:
        texts = [self._checked(event) for event in self._events]
        self._look_up([event.record_id for event in self._events])
        fates: list[Fate] = []
        rows: list[tuple[Row, str, str]] = []
        denials: list[ConsentEvent] = []
        for event, text in zip(self._events, texts, strict=True):
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
            _Batch(self._connection, denials).run()
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
        self._linked = _pseudonyms(self._connection, numbers)
        wanted = {
            name for event in self._events for name in (event.pii_principal_id, event.entity_id) if name is not None
        }
        names = [bytes.fromhex(name) for name in wanted]
        for name, number in find_rows(self._connection, LINKS.c, LINKS.c.pseudonym, names):
            self._numbers[bytes(name).hex()] = number

    def _number(self, pseudonym: str | None) -> int | None:
        """The number of a person, drawn where they have none."""
        if pseudonym is None:
            return None
        if pseudonym not in self._numbers:
            drawn = secrets.randbits(63)
            self._numbers[pseudonym] = self._fresh[pseudonym] = drawn
            self._linked[drawn] = pseudonym
        return self._numbers[pseudonym]

    def _row(self, event: ConsentEvent, text: str) -> Row:
        return row_of(
            event,
            person=self._number(event.pii_principal_id),
            entity=self._number(event.entity_id),
            terms=number_of(text),
            stored=self._stored,
        )

    def _is_same(self, known: Row, event: ConsentEvent, text: str) -> bool:
        # A link that is gone is not made anew by a second delivery: such people count as equal.
        for number, pseudonym in ((known.person, event.pii_principal_id), (known.entity, event.entity_id)):
            if (number is None) != (pseudonym is None):
                return False
            if number is not None and self._linked.get(number, pseudonym) != pseudonym:
                return False
        terms = number_of(text)
        return known.same_as(row_of(event, person=known.person, entity=known.entity, terms=terms, stored=0))

    def _write(self, rows: list[tuple[Row, str, str]]) -> None:
        if not rows:
            return
        texts = {row.terms: text for row, _, text in rows}
        names = {row.organisation: org_id for row, org_id, _ in rows}
        _add_missing(self._connection, TERMS_TABLE, texts)
        _add_missing(self._connection, ORGANISATIONS, names)
        fresh = ((bytes.fromhex(name), number) for name, number in self._fresh.items())
        insert_rows(self._connection, LINKS, fresh)
        insert_rows(self._connection, EVENTS, _chained(_head(self._connection), rows))


class _Names:
    """Texts of terms and organisations by number; as many as were asked for last."""

    _LIMIT = 50_000

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._texts: dict[tuple[str, int], str] = {}
        self._terms: dict[int, Mapping[str, Any]] = {}

    def organisation(self, number: int) -> str:
        return self._text(ORGANISATIONS, ORGANISATIONS.c.org_id, number)

    def text(self, number: int) -> str:
        return self._text(TERMS_TABLE, TERMS_TABLE.c.body, number)

    def terms(self, number: int) -> Mapping[str, Any]:
        if number not in self._terms:
            if len(self._terms) >= self._LIMIT:
                self._terms.clear()
            self._terms[number] = json.loads(self.text(number))
        return self._terms[number]

    def _text(self, table: sa.Table, column: sa.Column[Any], number: int) -> str:
        known = self._texts.get((table.name, number))
        if known is None:
            if len(self._texts) >= self._LIMIT:
                self._texts.clear()
            found = self._connection.execute(sa.select(column).where(table.c.number == number)).scalar()
            # A text that is gone breaks the chain where it was used; it is not an error of the reader.
            known = self._texts[table.name, number] = "" if found is None else str(found)
        return known


class _Facts:
    """Stored events as facts, one person after the other, in memory that does not grow with their number."""

    def __init__(self, connection: sa.Connection, rules: ConsentRules, upto: int) -> None:
        self.words = Vocabulary(rules)
        self.last_recorded = BEGIN
        self._connection = connection
        self._upto = upto
        self._names = _Names(connection)
        self._terms: dict[int, Terms] = {}
        self._organisations: dict[int, int] = {}

    def people(self) -> Iterator[tuple[bytes, list[Fact]]]:
        """(pseudonym, facts) of everyone who is linked."""
        rows = self._rows(EVENTS.c.person.is_not(None), EVENTS.c.person)
        links = _stream(self._connection, sa.select(LINKS.c.number, LINKS.c.pseudonym).order_by(LINKS.c.number))
        number, pseudonym = next(links, (None, b""))
        for person, history in groupby(rows, key=_PERSON):
            while number is not None and number < person:
                number, pseudonym = next(links, (None, b""))
            facts = [self._fact(row) for row in history]
            if number == person:
                yield bytes(pseudonym), facts

    def organisations(self) -> Iterator[tuple[str, list[Fact]]]:
        """(id, facts) of every organisation that said something."""
        rows = self._rows(EVENTS.c.person.is_(None), EVENTS.c.organisation)
        for number, history in groupby(rows, key=_ORGANISATION):
            yield self._names.organisation(number), [self._fact(row) for row in history]

    def _rows(self, where: sa.ColumnElement[bool], order: sa.Column[Any]) -> Iterator[Row]:
        query = sa.select(*COLUMNS).where(where, EVENTS.c.seq <= self._upto).order_by(order)
        return map(Row._make, _stream(self._connection, query))

    def _fact(self, row: Row) -> Fact:
        if row.recorded_time > self.last_recorded:
            self.last_recorded = row.recorded_time
        terms, organisation = self._terms.get(row.terms), self._organisations.get(row.organisation)
        if terms is None:
            if len(self._terms) >= _Names._LIMIT:
                self._terms.clear()
            whose = None if row.person is None else "0" * 64
            event = event_of(row, principal=whose, entity=None, org_id="", terms=self._names.terms(row.terms))
            terms = self._terms[row.terms] = terms_of(event, self.words)
        if organisation is None:
            number = self.words.organisation(self._names.organisation(row.organisation))
            organisation = self._organisations[row.organisation] = number
        return fact_of(
            terms,
            event_time=row.event_time,
            recorded=row.recorded_time,
            data_from=row.data_from,
            data_to=row.data_to,
            expires=row.expires_at,
            org=organisation,
            seq=row.source_seq,
            record_id=row.record_id,
        )


def _check_key(connection: sa.Connection, key: PrincipalKey) -> bool:
    """Whether the store knows its key, and it is this one."""
    known = connection.execute(sa.select(KEYS.c.population_id)).scalar()
    if known not in (None, key.population_id):
        raise ConsentError(
            "consent store: its pseudonyms were made under another key; give --key the file that the first import had"
        )
    return known is not None


def _head(connection: sa.Connection) -> Head:
    query = sa.select(EVENTS.c.seq, EVENTS.c.event_hash).order_by(EVENTS.c.seq.desc()).limit(1)
    found = connection.execute(query).first()
    return Head(0, GENESIS) if found is None else Head(found.seq, bytes(found.event_hash).hex())


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


def _pseudonyms(connection: sa.Connection, numbers: Collection[int]) -> dict[int, str]:
    found = find_rows(connection, (LINKS.c.number, LINKS.c.pseudonym), LINKS.c.number, numbers)
    return {number: bytes(name).hex() for number, name in found}


def _stream(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    """Rows of a question, some thousand in memory at a time."""
    return iter(connection.execute(query, execution_options={"stream_results": True, "yield_per": _FETCH}))
