"""How many people said what: by purpose, jurisdiction and the newest thing that each of them said.

It counts what people said, not what the gate decides: organisations, ages and notices are not in it. Whoever was
erased is counted still, as withdrawn, for their events are events of nobody.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from dp_train.consent.events import CollectionMethod, EntityRole, EventState, Purpose
from dp_train.consent.facts import microseconds
from dp_train.consent.store import ConsentStore
from dp_train.consent.tables import EVENTS, LINKS, TERMS_TABLE

UNKNOWN = "unknown"
_PLACE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")


class Answer(Enum):
    """What a person who was asked says now; of two at one time the later in this list counts."""

    GRANTED = "granted"
    WAITING = "not answered"
    EXPIRED = "expired"
    INVALID = "invalid"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


_ANSWERS = {
    EventState.GIVEN: Answer.GRANTED,
    EventState.RENEWED: Answer.GRANTED,
    EventState.REFUSED: Answer.REFUSED,
    EventState.WITHDRAWN: Answer.WITHDRAWN,
    EventState.REVOKED: Answer.WITHDRAWN,
    EventState.EXPIRED: Answer.EXPIRED,
    EventState.INVALIDATED: Answer.INVALID,
    EventState.REQUESTED: Answer.WAITING,
    EventState.DEFERRED: Answer.WAITING,
    EventState.UNKNOWN: Answer.WAITING,
    EventState.HELD: Answer.WAITING,
}
_ORDER = {answer: place for place, answer in enumerate(Answer)}


@dataclass(frozen=True, slots=True)
class Tallies:
    """Exact counts, not for publication: (purpose, jurisdiction, answer) → people. `suppression` makes them fit."""

    people: Mapping[tuple[Purpose, str, Answer], int]

    def table(self, purpose: Purpose) -> tuple[list[str], list[list[int]]]:
        """Jurisdictions in order, and one row of people for each answer, in the order of `Answer`."""
        places = sorted({place for found, place, _ in self.people if found is purpose})
        return places, [[self.people.get((purpose, place, answer), 0) for place in places] for answer in Answer]


@dataclass(frozen=True, slots=True)
class _Terms:
    purposes: tuple[Purpose, ...]
    answer: Answer
    place: str


def tally(store: ConsentStore, *, as_of: datetime) -> Tallies:
    """Count people, one after the other, in memory that does not grow with their number."""
    at = microseconds(as_of)
    counts: Counter[tuple[Purpose, str, Answer]] = Counter()
    with store.database.reading() as connection:
        terms = {number: _terms(json.loads(body)) for number, body in connection.execute(sa.select(TERMS_TABLE))}
        columns = (EVENTS.c.person, EVENTS.c.event_time, EVENTS.c.expires_at, EVENTS.c.terms, LINKS.c.number)
        query = (
            sa.select(*columns)
            .select_from(EVENTS.outerjoin(LINKS, LINKS.c.number == EVENTS.c.person))
            .where(EVENTS.c.person.is_not(None), EVENTS.c.event_time <= at)
            .order_by(EVENTS.c.person, EVENTS.c.event_time)
        )
        rows = connection.execute(query, execution_options={"stream_results": True, "yield_per": 5_000})
        for _, history in groupby(rows, key=lambda row: row.person):
            counts.update(_newest(history, terms, at))
    return Tallies(dict(counts))


def _newest(history: Any, terms: Mapping[int, _Terms | None], at: int) -> Iterator[tuple[Purpose, str, Answer]]:
    """What one person says of each purpose now."""
    found: dict[Purpose, tuple[int, int, str, Answer]] = {}
    for _, event_time, expires, number, linked in history:
        said = terms[number]
        if said is None:
            continue
        answer = said.answer
        if linked is None:  # erased, and so withdrawn
            answer = Answer.WITHDRAWN
        if answer is Answer.GRANTED and expires is not None and expires <= at:
            answer = Answer.EXPIRED
        for purpose in said.purposes:
            newer = (event_time, _ORDER[answer], said.place, answer)
            if purpose not in found or newer[:2] >= found[purpose][:2]:
                found[purpose] = newer
    return ((purpose, place, answer) for purpose, (_, _, place, answer) in found.items())


def _terms(body: Mapping[str, Any]) -> _Terms | None:
    """What of an event's terms is counted; None for an organisation's word about a person."""
    if body["entity_role"] == EntityRole.ORG_ADMIN.value or not EventState(body["event_state"]).decides:
        return None
    place = body.get("jurisdiction", "")
    signal = body.get("collection_method") == CollectionMethod.GPC_SIGNAL.value
    answer = Answer.WITHDRAWN if signal else _ANSWERS[EventState(body["event_state"])]
    purposes = tuple(Purpose(name) for name in body["purpose"]) or (() if answer is Answer.GRANTED else tuple(Purpose))
    # Only codes are told: a field that a user wrote a name into must not end in a report.
    return _Terms(purposes, answer, place if _PLACE.fullmatch(place) else UNKNOWN)
