"""The consent store: an append-only chain of events in a database, and who they are about beside it.

**People and the chain.** An event carries a number that commits to its person's pseudonym (HMAC under a key that is a
file of its own); `principal_links` maps the pseudonym and a salt to it. The chain's hashes are over the number.
`erase` deletes the link of one person: their events stay, verify, and lead nowhere; a tombstone keeps out what a sync
would bring back. Destroying the key severs everyone. Events that are read again, and snapshots, carry pseudonyms as
files of events do, so gate, registry and units know one kind of id; events of somebody who was erased are in neither.

**Whole or not at all.** A snapshot walks the chain before it decides; a store that was edited decides nothing.

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

from dp_train.consent.cells import pack_cells
from dp_train.consent.decisions import BEGIN, END, ConsentRules, Fact, visible
from dp_train.consent.events import ConsentEvent, EntityRole, EventState, denies, is_pseudonym, renews
from dp_train.consent.facts import Terms, Vocabulary, fact_of, microseconds, moment, terms_of
from dp_train.consent.identities import join, same_person
from dp_train.consent.principals import ID_RULE, PrincipalKey
from dp_train.consent.snapshot import ConsentSnapshot, freeze, organisation_cells, organisation_key
from dp_train.consent.tables import (
    COLUMNS,
    EVENTS,
    FACTS,
    IMPORTS,
    KEYS,
    LINKS,
    METADATA,
    ORGANISATIONS,
    SCHEMA,
    TERMS_TABLE,
    TOMBSTONES,
    Row,
    body_of,
    check_terms,
    check_text,
    event_of,
    number_for,
    number_of,
    row_of,
    severed,
    terms_text,
    tombstone_of,
)
from dp_train.errors import ConsentError, DataError, StoreError
from dp_train.store.chain import GENESIS, Broken, Link, Verified, row_hash, verify_chain
from dp_train.store.database import Database, find_rows, insert_rows, shown

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
    SUPPRESSED = "suppressed"
    """Its person was erased, and it is no renewed consent from their own hand: it was not stored."""


@dataclass(frozen=True, slots=True)
class Head:
    """End of the chain: how many events, and the hash of the last."""

    seq: int
    event_hash: str


@dataclass(frozen=True, slots=True)
class Tombstones:
    """Who is erased: hash of the pseudonym → since when (µs)."""

    since: Mapping[bytes, int]

    def keeps_out(self, event: ConsentEvent) -> bool:
        """Whether an event is about somebody who was erased, and neither denies nor renews by their own hand since."""
        if not self.since or event.pii_principal_id is None or denies(event):
            return False
        since = self.since.get(tombstone_of(event.pii_principal_id))
        when = microseconds(event.event_time)
        return since is not None and not (renews(event) and since < when <= microseconds(event.recorded_time))


class ConsentStore:
    """Every consent event that was delivered, in a database (CONSENT.md §Records).

    Guarantee: events are only ever added, each whole or not at all, each record id once; every one is linked to
    the one before it by a hash; writers of several processes come one after the other.

    Args:
      database: its tables are made where they are missing.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.reading() as connection:
            _refuse_old(connection)
            fresh = not sa.inspect(connection).has_table(FACTS.name)
        database.create(METADATA)
        if fresh:
            with database.writing(LOCK) as connection:
                facts = {"store_id": secrets.token_hex(16), "schema": SCHEMA, "ids": ID_RULE}
                there = {name for (name,) in connection.execute(sa.select(FACTS.c.name))}
                insert_rows(connection, FACTS, [(n, v) for n, v in facts.items() if n not in there])
        with database.reading() as connection:
            found: dict[str, str] = dict(tuple(row) for row in connection.execute(sa.select(FACTS)))
        if (found.get("schema"), found.get("ids")) != (SCHEMA, ID_RULE):
            raise StoreError(
                "consent store: made by another version (schema or rule of ids); use that version to export its "
                "events, and import them into a new store"
            )
        self.store_id = found["store_id"]
        """Random; names the store in the notes that are kept outside it."""

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

    def erase_in(self, connection: sa.Connection, pseudonym: str, *, at: datetime, record_id: str, reason: str) -> bool:
        """Sever a person from their events and leave a tombstone, in a transaction of `database.writing(LOCK)`.

        What their events were called and what they rest on goes as well; the chain still verifies. The tombstone is
        an event of nobody. Whether there was anything to sever.
        """
        where = LINKS.c.pseudonym == bytes.fromhex(pseudonym)
        number = connection.execute(sa.select(LINKS.c.number).where(where)).scalar()
        if number is not None:
            for values in connection.execute(sa.select(*COLUMNS).where(EVENTS.c.person == number)).all():
                row = Row._make(values)
                changes = {"record_id": severed(row), "evidence_ref": "", "salt": b""}
                connection.execute(EVENTS.update().where(EVENTS.c.record_id == row.record_id).values(**changes))
            connection.execute(LINKS.delete().where(where))
        _bury(connection, pseudonym, microseconds(at), record_id, reason)
        return number is not None

    def tombstone(self, pseudonym: str) -> datetime | None:
        """Since when a person is erased; None for everybody else."""
        with self.database.reading() as connection:
            since = _tombstones(connection, [pseudonym]).get(pseudonym)
        return None if since is None else moment(since)

    def tombstones(self) -> Tombstones:
        """Everybody who is erased, to keep them out of events that come from elsewhere."""
        with self.database.reading() as connection:
            query = sa.select(TOMBSTONES.c.digest, TOMBSTONES.c.since)
            return Tombstones({bytes(digest): since for digest, since in connection.execute(query)})

    def same_person(self, pseudonym: str) -> set[str]:
        """All ids of a person that are linked, as pseudonyms; the given one among them."""
        with self.database.reading() as connection:
            links = [(one, other) for one, other, _ in _identity_links(connection, None)]
        return {name.hex() for name in same_person(bytes.fromhex(pseudonym), links)}

    def note_import(self, *, rows: int, held: int, unread: int, stopped: bool) -> None:
        """Keep the counts of an import, which every snapshot carries on."""
        with self.database.writing(LOCK) as connection:
            number = connection.execute(sa.select(sa.func.max(IMPORTS.c.number))).scalar() or 0
            now = microseconds(datetime.now(UTC))
            insert_rows(connection, IMPORTS, [(number + 1, now, rows, held, unread, int(stopped))])

    def set_aside(self) -> int:
        """Rows of all imports whose person could not be read: they count for nobody."""
        with self.database.reading() as connection:
            return _set_aside(connection)

    def held(self) -> dict[str, datetime]:
        """People with a hold that nobody has decided about, and since when."""
        found: dict[str, datetime] = {}
        with self.database.reading() as connection:
            for state, gone in ((EventState.HELD, False), (EventState.RESOLVED, True)):
                query = (
                    sa.select(LINKS.c.pseudonym, EVENTS.c.event_time)
                    .join(EVENTS, EVENTS.c.person == LINKS.c.number)
                    .where(EVENTS.c.terms.in_(_terms_in(connection, state)))
                    .order_by(EVENTS.c.seq)
                )
                for name, when in connection.execute(query):
                    known = bytes(name).hex()
                    if not gone:
                        found[known] = moment(when)
                    elif known in found and moment(when) >= found[known]:
                        del found[known]
        return found

    def known(self, pseudonyms: Collection[str]) -> set[str]:
        """Those of some people whom events lead to."""
        names = [bytes.fromhex(name) for name in pseudonyms]
        with self.database.reading() as connection:
            return {bytes(n).hex() for (n,) in find_rows(connection, (LINKS.c.pseudonym,), LINKS.c.pseudonym, names)}

    def is_bound(self) -> bool:
        """Whether the store knows the key of its pseudonyms."""
        with self.database.reading() as connection:
            return connection.execute(sa.select(KEYS.c.population_id)).first() is not None

    def has_people(self) -> bool:
        """Whether any event leads to somebody."""
        with self.database.reading() as connection:
            return connection.execute(sa.select(LINKS.c.number).limit(1)).first() is not None

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
        with self.database.reading() as connection:
            erased = _terms_in(connection, EventState.ERASED)
        nobodys = sa.and_(EVENTS.c.person.is_(None), EVENTS.c.terms.not_in(erased))
        linked = sa.or_(nobodys, LINKS.c.number.is_not(None))
        joined = EVENTS.outerjoin(LINKS, LINKS.c.number == EVENTS.c.person)
        query = sa.select(EVENTS.c.terms, sa.func.count()).select_from(joined).where(linked).group_by(EVENTS.c.terms)
        with self.database.reading() as connection:
            names = _Names(connection)
            yield from ((names.terms(number), count) for number, count in connection.execute(query).all())

    def events(self, *, pseudonym: str | None = None, upto: int | None = None) -> Iterator[ConsentEvent]:
        """Stored events in the order of the chain, as a stream; `seq` is that of the file they came from.

        Args:
          pseudonym: of one person; None for everyone's and the organisations'. Erased people's are left out.
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
                    said = names.terms(row.terms)
                    if (row.person is not None and linked is None) or said["event_state"] == EventState.ERASED.value:
                        continue
                    yield event_of(
                        row,
                        principal=None if linked is None else bytes(linked).hex(),
                        entity=None if row.entity is None else entities.get(row.entity),
                        org_id=names.organisation(row.organisation),
                        terms=said,
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
          StoreError: the chain is broken, or a person's link was changed; nothing is decided.
        """
        rules = rules or ConsentRules()
        at, known = microseconds(as_of), END if known_at is None else microseconds(known_at)
        with self.database.reading() as connection:
            _check_key(connection, key)
            head = _whole(connection)
            last = head.seq
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
            links = [(a, b) for a, b, recorded in _identity_links(connection, last) if recorded <= known]
            join(people, links)
            if last != head.seq:
                head = Head(last, _hash_of(connection, last))
            set_aside = _set_aside(connection)
        moment_known = moment(max(at, facts.last_recorded) if known_at is None else known)
        return freeze(
            as_of=as_of,
            known_at=moment_known,
            key=key,
            people=people,
            organisations=organisations,
            links=links,
            upto=last,
            head=head.event_hash,
            store=shown(self.database.url),
            set_aside=set_aside,
        )

    def links(self) -> Iterator[tuple[Link, int]]:
        """The chain as it was stored, each link with when the store took it (µs), as a stream."""
        with self.database.reading() as connection:
            yield from _links(connection)

    def check(self) -> Head:
        """The head of the chain, once all of it verified.

        Raises:
          StoreError: it does not; names the first row.
        """
        with self.database.reading() as connection:
            return _whole(connection)

    def verify(self, *, expected_head: str | None = None) -> Verified:
        """Walk the chain; names the first event that was changed, moved, taken out or given to another person.

        Args:
          expected_head: a hash that was kept elsewhere, which the chain must pass through.
        """
        with self.database.reading() as connection:
            return _verify(connection, expected_head)


class _Batch:
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
        for name, number in find_rows(self._connection, (LINKS.c.pseudonym, LINKS.c.number), LINKS.c.pseudonym, names):
            self._numbers[bytes(name).hex()] = bytes(number)
        self._erased = _tombstones(self._connection, wanted - self._numbers.keys())

    def _is_suppressed(self, event: ConsentEvent) -> bool:
        """Whether an event is about somebody who was erased, and does not come from their own hand since.

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
            _bury(self._connection, name, when, f"erasure-{secrets.token_hex(16)}", "a no after the erasure")
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
        if event.event_state is EventState.HELD:  # of one row, whenever it came
            return True
        terms = number_of(text)
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
            while number is not None and bytes(number) < bytes(person):
                number, pseudonym = next(links, (None, b""))
            facts = [self._fact(row) for row in history]
            if number is not None and bytes(number) == bytes(person):
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
        recorded = min(row.recorded_time, row.stored_time)
        if recorded > self.last_recorded:
            self.last_recorded = recorded
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
            arrived=row.stored_time,
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


def _hash_of(connection: sa.Connection, seq: int) -> str:
    found = connection.execute(sa.select(EVENTS.c.event_hash).where(EVENTS.c.seq == seq)).scalar()
    return GENESIS if found is None else bytes(found).hex()


def _links(connection: sa.Connection) -> Iterator[tuple[Link, int]]:
    names = _Names(connection)
    previous = GENESIS
    query = sa.select(EVENTS.c.seq, EVENTS.c.event_hash, *COLUMNS).order_by(EVENTS.c.seq)
    for seq, digest, *values in _stream(connection, query):
        row = Row(*values)
        found = bytes(digest).hex()
        yield (
            Link(seq, previous, found, body_of(row, names.organisation(row.organisation), names.text(row.terms))),
            (row.stored_time),
        )
        previous = found


def _verify(connection: sa.Connection, expected_head: str | None = None) -> Verified:
    """The chain, and what stands beside it: links, tombstones, and that nobody was unlinked without an erasure."""
    found = verify_chain((link for link, _ in _links(connection)), expected_head=expected_head)
    if found.broken is not None:
        return found
    for pseudonym, number, salt in _stream(connection, sa.select(LINKS.c.pseudonym, LINKS.c.number, LINKS.c.salt)):
        if number_for(bytes(pseudonym), bytes(salt)) != bytes(number):
            query = sa.select(sa.func.min(EVENTS.c.seq)).where(EVENTS.c.person == number)
            seq = connection.execute(query).scalar() or 0
            return Verified(max(seq - 1, 0), found.head, Broken(seq, f"row {seq} was given to another person"))
    buried = _buried(connection)
    latest: dict[bytes, int] = {}
    for digest, since in buried:
        latest[digest] = max(since, latest.get(digest, since))
    if {bytes(digest): since for digest, since in connection.execute(sa.select(TOMBSTONES))} != latest:
        return Verified(0, found.head, Broken(0, "the tombstones of people who were erased are not those of the chain"))
    if _unlinked(connection) > len(buried):
        return Verified(0, found.head, Broken(0, "the link of a person was taken out, and no erasure says so"))
    return found


def _whole(connection: sa.Connection) -> Head:
    """The head of a store that verifies.

    Raises:
      StoreError: it does not.
    """
    found = _verify(connection)
    if found.broken is not None:
        raise StoreError(
            f"consent chain: {found.broken.reason}; nothing is decided by a store that was changed: see "
            "dp-train consent verify, and restore it from a backup that verifies"
        )
    return Head(found.rows, found.head)


def _unlinked(connection: sa.Connection) -> int:
    """How many people events are about who have no link."""
    joined = EVENTS.outerjoin(LINKS, LINKS.c.number == EVENTS.c.person)
    query = sa.select(sa.func.count(EVENTS.c.person.distinct())).select_from(joined)
    return int(connection.execute(query.where(EVENTS.c.person.is_not(None), LINKS.c.number.is_(None))).scalar() or 0)


def _terms_in(connection: sa.Connection, state: EventState) -> list[int]:
    """Numbers of the terms with a state."""
    found = connection.execute(sa.select(TERMS_TABLE).where(TERMS_TABLE.c.body.contains(f'"{state.value}"')))
    return [number for number, body in found if json.loads(body)["event_state"] == state.value]


def _buried(connection: sa.Connection) -> list[tuple[bytes, int]]:
    """(digest, since) of every tombstone in the chain."""
    query = sa.select(EVENTS.c.evidence_ref, EVENTS.c.event_time)
    query = query.where(EVENTS.c.terms.in_(_terms_in(connection, EventState.ERASED)))
    return [(bytes.fromhex(digest), since) for digest, since in connection.execute(query)]


def _bury(connection: sa.Connection, pseudonym: str, at: int, record_id: str, reason: str) -> None:
    """Write a tombstone into the chain and into the table that is asked."""
    digest = tombstone_of(pseudonym)
    event = ConsentEvent(
        record_id=record_id,
        seq=0,
        pii_principal_id=None,
        org_id="",
        entity_role=EntityRole.CONTROLLER,
        purpose=frozenset(),
        content_kind=frozenset(),
        event_state=EventState.ERASED,
        event_time=moment(at),
        recorded_time=max(moment(at), datetime.now(UTC)),
        evidence_ref=digest.hex(),
        reason=reason,
    )
    _Batch(connection, [event]).run()
    known = connection.execute(sa.select(TOMBSTONES.c.since).where(TOMBSTONES.c.digest == digest)).scalar()
    if known is None:
        insert_rows(connection, TOMBSTONES, [(digest, at)])
    elif at > known:
        connection.execute(TOMBSTONES.update().where(TOMBSTONES.c.digest == digest).values(since=at))


def _tombstones(connection: sa.Connection, pseudonyms: Collection[str]) -> dict[str, int]:
    """Those of some people who have one, and since when (µs)."""
    if not pseudonyms or connection.execute(sa.select(TOMBSTONES.c.since).limit(1)).first() is None:
        return {}
    names = {tombstone_of(name): name for name in pseudonyms}
    found = find_rows(connection, TOMBSTONES.c, TOMBSTONES.c.digest, names)
    return {names[bytes(digest)]: since for digest, since in found}


def _identity_links(connection: sa.Connection, upto: int | None) -> list[tuple[bytes, bytes, int]]:
    """(pseudonym, pseudonym, when we learnt of it) of ids that are one person."""
    terms = _terms_in(connection, EventState.LINKED)
    if not terms:
        return []
    other = LINKS.alias("other")
    query = (
        sa.select(LINKS.c.pseudonym, other.c.pseudonym, EVENTS.c.recorded_time, EVENTS.c.stored_time)
        .select_from(EVENTS)
        .join(LINKS, LINKS.c.number == EVENTS.c.person)
        .join(other, other.c.number == EVENTS.c.entity)
        .where(EVENTS.c.terms.in_(terms))
        .order_by(EVENTS.c.seq)
    )
    if upto is not None:
        query = query.where(EVENTS.c.seq <= upto)
    return [(bytes(a), bytes(b), min(recorded, stored)) for a, b, recorded, stored in connection.execute(query)]


def _set_aside(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.sum(IMPORTS.c.unread))).scalar() or 0)


def _refuse_old(connection: sa.Connection) -> None:
    inspector = sa.inspect(connection)
    if inspector.has_table(EVENTS.name) and "salt" not in {
        column["name"] for column in inspector.get_columns(EVENTS.name)
    }:
        raise StoreError(
            "consent store: made by an older version, whose events do not say whom they are about inside the hash; "
            "use that version to export its events, and import them into a new store"
        )


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


def _pseudonyms(connection: sa.Connection, numbers: Collection[bytes]) -> dict[bytes, str]:
    found = find_rows(connection, (LINKS.c.number, LINKS.c.pseudonym), LINKS.c.number, numbers)
    return {bytes(number): bytes(name).hex() for number, name in found}


def _stream(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    """Rows of a question, some thousand in memory at a time."""
    return iter(connection.execute(query, execution_options={"stream_results": True, "yield_per": _FETCH}))
