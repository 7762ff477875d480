"""The consent store: an append-only chain of events in a database, and who they are about beside it.

**People and the chain.** An event carries a number that commits to its person's pseudonym (HMAC under a key that is a
file of its own); `principal_links` maps the pseudonym and a salt to it. The chain's hashes are over the number.
`erase` deletes the link of one person: their events stay, verify, and lead nowhere; a tombstone keeps out what a sync
would bring back. Destroying the key severs everyone. Events that are read again, and snapshots, carry pseudonyms as
files of events do, so gate, registry and units know one kind of id; events of a person who was erased are in neither.

**Whole or not at all.** A snapshot verifies the chain before it decides: the part that was verified before by its
fingerprint, the rest by walking it (`checkpoint`). A store that was edited decides nothing.

**Appending.** Every writer takes the lock `LOCK`. One event, or a few with other rows beside them:

    store.append(event)                                        # a transaction of its own

    with store.database.writing(LOCK) as connection:           # or together with rows of your own tables
        fate, = store.append_in(connection, [event])
        connection.execute(RECEIPTS.insert(), …)

Leave `seq` at 0; the store numbers events itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from dp_train.consent.appending import Batch, Fate, bury
from dp_train.consent.cells import pack_cells
from dp_train.consent.checkpoint import Checkpoints, whole_head
from dp_train.consent.decisions import END, visible
from dp_train.consent.events import NOBODYS, ConsentEvent, EventState, denies, renews
from dp_train.consent.facts import microseconds, moment
from dp_train.consent.identities import join, same_person
from dp_train.consent.integrity import check_key, links_of, refuse_old, verify_store
from dp_train.consent.principals import ID_RULE, PrincipalKey
from dp_train.consent.rules import ConsentRules
from dp_train.consent.snapshot import ConsentSnapshot, freeze, organisation_cells, organisation_key
from dp_train.consent.stored import (
    FETCH,
    Head,
    Names,
    StoredFacts,
    hash_of,
    head_of,
    identity_links,
    pseudonyms_of,
    rows_set_aside,
    stream,
    terms_in,
    tombstones_of,
)
from dp_train.consent.tables import (
    COLUMNS,
    EVENTS,
    FACTS,
    KEYS,
    LINKS,
    METADATA,
    SCHEMA,
    TOMBSTONES,
    Row,
    event_of,
    severed,
    tombstone_of,
)
from dp_train.errors import StoreError
from dp_train.store.chain import Link, Verified
from dp_train.store.database import Database, find_rows, insert_rows, shown

_NOBODYS = frozenset(state.value for state in NOBODYS)
LOCK = "consent"
"""The lock of `Database.writing` that every writer of consent takes."""


@dataclass(frozen=True, slots=True)
class Tombstones:
    """Who is erased: hash of the pseudonym → since when (µs)."""

    since: Mapping[bytes, int]

    def keeps_out(self, event: ConsentEvent) -> bool:
        """Whether an event is about a person who was erased, and neither denies nor renews by their own hand since."""
        if not self.since or event.pii_principal_id is None or denies(event):
            return False
        since = self.since.get(tombstone_of(event.pii_principal_id))
        when = microseconds(event.event_time)
        return since is not None and not (renews(event) and since < when <= microseconds(event.recorded_time))


class ConsentStore:
    """Every consent event that was delivered, in a database (docs/consent.md, Records).

    Guarantee: events are only ever added, each whole or not at all, each record id once; every one is linked to
    the one before it by a hash; writers of several processes come one after the other.

    Args:
      database: its tables are made where they are missing.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.reading() as connection:
            refuse_old(connection)
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

        Under another key the same person counts as another, so a withdrawal would reach nobody.

        Raises:
          ConsentError: the store's pseudonyms were made under another key.
        """
        with self.database.writing(LOCK) as connection:
            if not check_key(connection, key):
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
        return Batch(connection, events).run()

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
        bury(connection, pseudonym, microseconds(at), record_id, reason)
        return number is not None

    def tombstone(self, pseudonym: str) -> datetime | None:
        """Since when a person is erased; None for everybody else."""
        with self.database.reading() as connection:
            since = tombstones_of(connection, [pseudonym]).get(pseudonym)
        return None if since is None else moment(since)

    def tombstones(self) -> Tombstones:
        """Everybody who is erased, to keep them out of events that come from elsewhere."""
        with self.database.reading() as connection:
            query = sa.select(TOMBSTONES.c.digest, TOMBSTONES.c.since)
            return Tombstones({bytes(digest): since for digest, since in connection.execute(query)})

    def same_person(self, pseudonym: str) -> set[str]:
        """All ids of a person that are linked, as pseudonyms; the given one among them."""
        with self.database.reading() as connection:
            links = [(one, other) for one, other, _ in identity_links(connection, None)]
        return {name.hex() for name in same_person(bytes.fromhex(pseudonym), links)}

    def set_aside(self) -> int:
        """Different rows of all imports whose person could not be read: they count for no person."""
        with self.database.reading() as connection:
            return rows_set_aside(connection)

    def held(self) -> dict[str, datetime]:
        """People with a hold that nobody has decided about, and since when."""
        found: dict[str, datetime] = {}
        with self.database.reading() as connection:
            for state, gone in ((EventState.HELD, False), (EventState.RESOLVED, True)):
                query = (
                    sa.select(LINKS.c.pseudonym, EVENTS.c.event_time)
                    .join(EVENTS, EVENTS.c.person == LINKS.c.number)
                    .where(EVENTS.c.terms.in_(terms_in(connection, state)))
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
        """Whether any event leads to a person."""
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
        return head_of(connection)

    def last_stored(self) -> datetime | None:
        """When the store took its last event; None where it holds none."""
        with self.database.reading() as connection:
            found = connection.execute(sa.select(sa.func.max(EVENTS.c.stored_time))).scalar()
        return None if found is None else moment(found)

    def counts(self) -> Iterator[tuple[Mapping[str, Any], int]]:
        """(terms as JSON has them, how many stored events say so), without events of people who were unlinked."""
        with self.database.reading() as connection:
            own = [number for state in NOBODYS for number in terms_in(connection, state)]
        nobodys = sa.and_(EVENTS.c.person.is_(None), EVENTS.c.terms.not_in(own))
        linked = sa.or_(nobodys, LINKS.c.number.is_not(None))
        joined = EVENTS.outerjoin(LINKS, LINKS.c.number == EVENTS.c.person)
        query = sa.select(EVENTS.c.terms, sa.func.count()).select_from(joined).where(linked).group_by(EVENTS.c.terms)
        with self.database.reading() as connection:
            names = Names(connection)
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
            names = Names(connection)
            found = stream(connection, query.order_by(EVENTS.c.seq))
            while batch := list(islice(found, FETCH)):
                entities = pseudonyms_of(connection, {each.entity for each in batch if each.entity is not None})
                for *values, linked in batch:
                    row = Row(*values)
                    said = names.terms(row.terms)
                    if (row.person is not None and linked is None) or said["event_state"] in _NOBODYS:
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
        checkpoints = Checkpoints.of(self.database, self.store_id)
        verified = checkpoints.read()
        with self.database.reading() as connection:
            check_key(connection, key)
            head, made = whole_head(connection, verified, checkpoints.key)
            last = head.seq
            last = last if upto is None else min(upto, last)
            facts = StoredFacts(connection, rules, last)
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
            links = [(a, b) for a, b, recorded in identity_links(connection, last) if recorded <= known]
            join(people, links)
            if last != head.seq:
                head = Head(last, hash_of(connection, last))
            set_aside = rows_set_aside(connection)
        checkpoints.write(made)
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
            yield from links_of(connection)

    def check(self) -> Head:
        """The head of the chain, once all of it verified; see `checkpoint`.

        Raises:
          StoreError: it does not; names the first row.
        """
        checkpoints = Checkpoints.of(self.database, self.store_id)
        known = checkpoints.read()
        with self.database.reading() as connection:
            head, made = whole_head(connection, known, checkpoints.key)
        checkpoints.write(made)
        return head

    def verify(self, *, expected_head: str | None = None) -> Verified:
        """Walk the chain; names the first event that was changed, moved, taken out or given to another person.

        Args:
          expected_head: a hash that was kept elsewhere, which the chain must pass through.
        """
        with self.database.reading() as connection:
            return verify_store(connection, expected_head)


__all__ = ["LOCK", "ConsentStore", "Fate", "Head", "Tombstones"]
