"""The registry of consent: takes events in any order, answers for any time, freezes snapshots.

An event is packed into some ninety bytes when it arrives, so that the history of a million people
fits in memory; what the bytes decide is in `decisions`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import UTC, datetime

from dp_train.consent.cells import pack_cells
from dp_train.consent.decisions import BEGIN, END, Decision, Fact, Judge, Outcome, Reason, visible
from dp_train.consent.events import ConsentEvent, EventState, Purpose
from dp_train.consent.facts import Vocabulary, fact_of, microseconds, moment, optional_microseconds, terms_of
from dp_train.consent.identities import join, same_person
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.rules import ALL_KINDS, PURPOSES, ConsentRules
from dp_train.consent.snapshot import ConsentSnapshot, decide, freeze, organisation_cells, organisation_key
from dp_train.conversations import ContentKind

__all__ = ["ConsentRegistry", "ConsentRules", "ConsentSnapshot", "Decision", "Reason"]

_FACT = struct.Struct("<BBBBBBBHqqqqqIqIIq16s")


class ConsentRegistry:
    """Every consent event there is, and what they decide (docs/consent.md, Decisions).

    Guarantee: what is not granted is denied, and decisions are a function of the set of events:
    their order, repeated deliveries and late arrivals of events that happened earlier change nothing
    but what was known at a time.

    Three cases that docs/consent.md leaves open are decided here. An organisation without a record denies. An
    organisation's grant that names a person grants nothing; its denial of a person stands until the
    same organisation lifts it. A first consent under a changed notice is valid, see `ConsentRules`.

    Args:
      events: read once, as a stream.
      rules: notices with material changes, purposes for which age matters.
      key: turns person ids into the pseudonyms of the events.
      arrived: when the events came here, now if not given; none was recorded later, whatever it says.
    """

    def __init__(
        self,
        events: Iterable[ConsentEvent],
        *,
        rules: ConsentRules | None = None,
        key: PrincipalKey,
        arrived: datetime | None = None,
    ) -> None:
        self._arrived = END if arrived is None else microseconds(arrived)
        self._links: list[tuple[bytes, bytes, int]] = []
        self._rules = rules or ConsentRules()
        self._key = key
        self._people: dict[bytes, bytes] = {}
        self._organisations: dict[bytes, bytes] = {}
        self._words = Vocabulary(self._rules)
        self._last_recorded = BEGIN
        for event in events:
            if self._arrived == END:  # once the source is open: what it makes of a row is not from the future
                self._arrived = microseconds(datetime.now(UTC))
            fact = self._fact(event)
            if event.pii_principal_id is None:
                key_, side = organisation_key(event.org_id), self._organisations
            else:
                key_, side = bytes.fromhex(event.pii_principal_id), self._people
            side[key_] = side.get(key_, b"") + _FACT.pack(*fact)
            if event.event_state is EventState.LINKED and event.pii_principal_id and event.entity_id:
                self._links.append((key_, bytes.fromhex(event.entity_id), fact.recorded))
            self._last_recorded = max(self._last_recorded, fact.recorded)

    def decide(
        self,
        person_id: str,
        *,
        purpose: Purpose,
        kind: ContentKind,
        created_at: datetime,
        as_of: datetime,
        known_at: datetime | None = None,
        org_id: str | None = None,
    ) -> Decision:
        """Whether a person's content may be used, as of one time and as known at one time.

        With `org_id` the answer equals that of the snapshot. Without, the answer is the person's own
        and an organisation may still deny. `known_at` None takes all that the registry holds.
        """
        at, known = microseconds(as_of), END if known_at is None else microseconds(known_at)
        judge = self._words.judge(at)
        digest = self._key.digest(person_id)
        people = {name: self._cells(judge, name, at, known) for name in same_person(digest, self._known_links(known))}
        join(people, self._known_links(known))
        cells = people[digest]
        if org_id is None:
            organisation = _CONSENTING
        else:
            facts = _unpack(self._organisations.get(organisation_key(org_id)), at, known)
            organisation = organisation_cells(judge, facts, self._rules.organisations.get(org_id))
        return decide(cells, organisation, purpose=purpose, kind=kind, created=microseconds(created_at), as_of=at)

    def snapshot(self, *, as_of: datetime, known_at: datetime | None = None) -> ConsentSnapshot:
        """Freeze every decision.

        `known_at` None takes all that the registry holds; the snapshot then names the time that
        reproduces it later, when more events have been recorded.
        """
        at = microseconds(as_of)
        known = max(at, self._last_recorded) if known_at is None else microseconds(known_at)
        judge = self._words.judge(at)
        same: dict[bytes, bytes] = {}  # most people without a window share their bytes
        people: dict[bytes, bytes] = {}
        for key in self._people:
            cells = self._cells(judge, key, at, known)
            if cells:
                people[key] = same.setdefault(cells, cells)
        links = self._known_links(known)
        join(people, links)
        organisations: dict[bytes, bytes] = {}
        limits = {organisation_key(org_id): found for org_id, found in self._rules.organisations.items()}
        for key, packed in self._organisations.items():
            cells = organisation_cells(judge, _unpack(packed, at, known), limits.get(key))
            if cells:
                organisations[key] = cells
        return freeze(
            as_of=as_of, known_at=moment(known), key=self._key, people=people, organisations=organisations, links=links
        )

    def _known_links(self, known_at: int) -> list[tuple[bytes, bytes]]:
        return [(one, other) for one, other, recorded in self._links if recorded <= known_at]

    def _cells(self, judge: Judge, name: bytes, as_of: int, known_at: int) -> bytes:
        return pack_cells(judge.cells(_unpack(self._people.get(name), as_of, known_at)))

    def _fact(self, event: ConsentEvent) -> Fact:
        return fact_of(
            terms_of(event, self._words),
            event_time=microseconds(event.event_time),
            recorded=microseconds(event.recorded_time),
            arrived=self._arrived,
            data_from=optional_microseconds(event.data_from),
            data_to=optional_microseconds(event.data_to),
            expires=optional_microseconds(event.expires_at),
            org=self._words.organisation(event.org_id),
            seq=event.seq,
            record_id=event.record_id,
        )


_CONSENTING = pack_cells((purpose, ALL_KINDS, Outcome(Reason.GRANTED, BEGIN, END)) for purpose in range(len(PURPOSES)))


def _unpack(packed: bytes | None, as_of: int, known_at: int) -> list[Fact]:
    return visible(map(Fact._make, _FACT.iter_unpack(packed or b"")), as_of=as_of, known_at=known_at)
