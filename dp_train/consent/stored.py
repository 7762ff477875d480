"""Reads what the consent store holds: names, facts and links, some thousand rows in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from dp_train.consent.decisions import BEGIN, Fact
from dp_train.consent.events import EventState
from dp_train.consent.facts import Terms, Vocabulary, fact_of, terms_of
from dp_train.consent.rules import ConsentRules
from dp_train.consent.tables import (
    COLUMNS,
    EVENTS,
    IMPORTS,
    LINKS,
    ORGANISATIONS,
    TERMS_TABLE,
    TOMBSTONES,
    UNREAD,
    Row,
    event_of,
    tombstone_of,
)
from dp_train.errors import StoreError
from dp_train.store.chain import GENESIS
from dp_train.store.database import find_rows

FETCH = 5_000
"""Rows in memory at a time."""

_PERSON, _ORGANISATION = attrgetter("person"), attrgetter("organisation")


@dataclass(frozen=True, slots=True)
class Head:
    """End of the chain: how many events, and the hash of the last."""

    seq: int
    event_hash: str


def stream(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    """Rows of a question, some thousand in memory at a time."""
    return iter(connection.execute(query, execution_options={"stream_results": True, "yield_per": FETCH}))


def head_of(connection: sa.Connection) -> Head:
    query = sa.select(EVENTS.c.seq, EVENTS.c.event_hash).order_by(EVENTS.c.seq.desc()).limit(1)
    found = connection.execute(query).first()
    return Head(0, GENESIS) if found is None else Head(found.seq, bytes(found.event_hash).hex())


def hash_of(connection: sa.Connection, seq: int) -> str:
    found = connection.execute(sa.select(EVENTS.c.event_hash).where(EVENTS.c.seq == seq)).scalar()
    return GENESIS if found is None else bytes(found).hex()


def pseudonyms_of(connection: sa.Connection, numbers: Collection[bytes]) -> dict[bytes, str]:
    found = find_rows(connection, (LINKS.c.number, LINKS.c.pseudonym), LINKS.c.number, numbers)
    return {bytes(number): bytes(name).hex() for number, name in found}


def terms_in(connection: sa.Connection, state: EventState) -> list[int]:
    """Numbers of the terms with a state."""
    found = connection.execute(sa.select(TERMS_TABLE).where(TERMS_TABLE.c.body.contains(f'"{state.value}"')))
    return [number for number, body in found if json.loads(body)["event_state"] == state.value]


def identity_links(connection: sa.Connection, upto: int | None) -> list[tuple[bytes, bytes, int]]:
    """(pseudonym, pseudonym, when we learnt of it) of ids that are one person."""
    terms = terms_in(connection, EventState.LINKED)
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


def rows_set_aside(connection: sa.Connection) -> int:
    """Unread rows of all imports, each once."""
    before = connection.execute(sa.select(sa.func.sum(IMPORTS.c.unread))).scalar() or 0
    return int(before) + int(connection.execute(sa.select(sa.func.count()).select_from(UNREAD)).scalar() or 0)


def tombstones_of(connection: sa.Connection, pseudonyms: Collection[str]) -> dict[str, int]:
    """Those of some people who have one, and since when (µs)."""
    if not pseudonyms or connection.execute(sa.select(TOMBSTONES.c.since).limit(1)).first() is None:
        return {}
    names = {tombstone_of(name): name for name in pseudonyms}
    found = find_rows(connection, TOMBSTONES.c, TOMBSTONES.c.digest, names)
    return {names[bytes(digest)]: since for digest, since in found}


class Names:
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
        """What an event says, as JSON has it.

        Raises:
          StoreError: its text is gone or was changed.
        """
        if number not in self._terms:
            if len(self._terms) >= self._LIMIT:
                self._terms.clear()
            try:
                self._terms[number] = json.loads(self.text(number))
            except ValueError:
                raise StoreError(
                    "consent store: the text of an event is gone or was changed; see dp-train consent verify, and "
                    "restore the store from a backup that verifies"
                ) from None
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


class StoredFacts:
    """Stored events as facts, one person after the other, in memory that does not grow with their number."""

    def __init__(self, connection: sa.Connection, rules: ConsentRules, upto: int) -> None:
        self.words = Vocabulary(rules)
        self.last_recorded = BEGIN
        self._connection = connection
        self._upto = upto
        self._names = Names(connection)
        self._terms: dict[int, Terms] = {}
        self._organisations: dict[int, int] = {}

    def people(self) -> Iterator[tuple[bytes, list[Fact]]]:
        """(pseudonym, facts) of everyone who is linked."""
        rows = self._rows(EVENTS.c.person.is_not(None), EVENTS.c.person)
        links = stream(self._connection, sa.select(LINKS.c.number, LINKS.c.pseudonym).order_by(LINKS.c.number))
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
        return map(Row._make, stream(self._connection, query))

    def _fact(self, row: Row) -> Fact:
        recorded = min(row.recorded_time, row.stored_time)
        if recorded > self.last_recorded:
            self.last_recorded = recorded
        terms, organisation = self._terms.get(row.terms), self._organisations.get(row.organisation)
        if terms is None:
            if len(self._terms) >= Names._LIMIT:
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
