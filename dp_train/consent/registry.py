"""The registry of consent: takes events in any order, answers for any time, freezes snapshots.

An event is packed into some ninety bytes when it arrives, so that the history of a million people
fits in memory; what the bytes decide is in `decisions`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from dp_train.consent.decisions import (
    AGES,
    ALL_KINDS,
    ALL_PURPOSES,
    BEGIN,
    END,
    GPC,
    KINDS,
    MALFORMED,
    PURPOSES,
    REQUIRED_PROCESSING,
    ROLES,
    STATES,
    ConsentRules,
    Decision,
    Fact,
    Judge,
    Outcome,
    Reason,
    visible,
)
from dp_train.consent.events import (
    SCHEMA_VERSION,
    CollectionMethod,
    ConsentEvent,
    EntityRole,
    LawfulBasis,
    Purpose,
)
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.snapshot import (
    ConsentSnapshot,
    decide,
    freeze,
    microseconds,
    organisation_key,
    pack_cells,
)
from dp_train.conversations import ContentKind

__all__ = ["ConsentRegistry", "ConsentRules", "ConsentSnapshot", "Decision", "Reason"]

_FACT = struct.Struct("<BBBBBBHqqqqqIqIq16s")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ConsentRegistry:
    """Every consent event there is, and what they decide (CONSENT.md §Decisions 1–7).

    Guarantee: what is not granted is denied, and decisions are a function of the set of events:
    their order, repeated deliveries and late arrivals of events that happened earlier change nothing
    but what was known at a time.

    Three readings of CONSENT.md are decided here. An organisation without a record denies. An
    organisation's grant that names a person grants nothing; its denial of a person stands until the
    same organisation lifts it. A first consent under a changed notice is valid, see `ConsentRules`.

    Args:
      events: read once, as a stream.
      rules: notices with material changes, purposes for which age matters.
      key: turns person ids into the pseudonyms of the events.
    """

    def __init__(self, events: Iterable[ConsentEvent], *, rules: ConsentRules | None = None, key: PrincipalKey) -> None:
        self._rules = rules or ConsentRules()
        self._key = key
        self._people: dict[bytes, bytes] = {}
        self._organisations: dict[bytes, bytes] = {}
        self._names: dict[tuple[str, str], int] = {}  # (field, notice or organisation) → index in facts
        self._last_recorded = BEGIN
        for event in events:
            fact = self._fact(event)
            if event.pii_principal_id is None:
                key_, side = organisation_key(event.org_id), self._organisations
            else:
                key_, side = bytes.fromhex(event.pii_principal_id), self._people
            side[key_] = side.get(key_, b"") + _FACT.pack(*fact)
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
        person = self._people.get(self._key.digest(person_id))
        at, known = microseconds(as_of), END if known_at is None else microseconds(known_at)
        judge = self._judge(at)
        cells = pack_cells(judge.cells(_unpack(person, at, known)))
        if org_id is None:
            organisation = _CONSENTING
        else:
            facts = _unpack(self._organisations.get(organisation_key(org_id)), at, known)
            organisation = pack_cells(judge.organisation(facts))
        return decide(cells, organisation, purpose=purpose, kind=kind, created=microseconds(created_at), as_of=at)

    def snapshot(self, *, as_of: datetime, known_at: datetime | None = None) -> ConsentSnapshot:
        """Freeze every decision.

        `known_at` None takes all that the registry holds; the snapshot then names the time that
        reproduces it later, when more events have been recorded.
        """
        at = microseconds(as_of)
        known = max(at, self._last_recorded) if known_at is None else microseconds(known_at)
        judge = self._judge(at)
        same: dict[bytes, bytes] = {}  # most people without a window share their bytes
        people: dict[bytes, bytes] = {}
        for key, packed in self._people.items():
            cells = pack_cells(judge.cells(_unpack(packed, at, known)))
            if cells:
                people[key] = same.setdefault(cells, cells)
        organisations: dict[bytes, bytes] = {}
        for key, packed in self._organisations.items():
            cells = pack_cells(judge.organisation(_unpack(packed, at, known)))
            if cells:
                organisations[key] = cells
        known_time = _EPOCH + timedelta(microseconds=known)
        return freeze(as_of=as_of, known_at=known_time, key=self._key, people=people, organisations=organisations)

    def _judge(self, as_of: int) -> Judge:
        versions = self._rules.material_versions
        material = {self._index("notice", notice): version for notice, version in versions.items()}
        return Judge(material, sum(1 << PURPOSES.index(purpose) for purpose in self._rules.age_matters), as_of)

    def _index(self, field: str, name: str) -> int:
        return self._names.setdefault((field, name), len(self._names))

    def _fact(self, event: ConsentEvent) -> Fact:
        event_time = microseconds(event.event_time)
        uncovered = 0
        if event.processing:
            uncovered = _mask(PURPOSES, {p for p in PURPOSES if not REQUIRED_PROCESSING[p] <= event.processing})
        return Fact(
            role=ROLES.index(event.entity_role),
            state=STATES.index(event.event_state),
            age=AGES.index(event.age_band),
            flaws=_flaws(event),
            # A denial, or a malformed grant, that does not say of what is about everything.
            purposes=_mask(PURPOSES, event.purpose) or ALL_PURPOSES,
            uncovered=uncovered,
            kinds=_mask(KINDS, event.content_kind) or ALL_KINDS,
            event_time=event_time,
            recorded=microseconds(event.recorded_time),
            data_from=event_time if event.data_from is None else microseconds(event.data_from),
            data_to=END if event.data_to is None else microseconds(event.data_to),
            expires=END if event.expires_at is None else microseconds(event.expires_at),
            notice=self._index("notice", event.notice_id),
            version=event.notice_version,
            org=self._index("org", event.org_id),
            seq=event.seq,
            record=hashlib.blake2b(event.record_id.encode("utf-8", "surrogatepass"), digest_size=16).digest(),
        )


_CONSENTING = pack_cells((purpose, ALL_KINDS, Outcome(Reason.GRANTED, BEGIN, END)) for purpose in range(len(PURPOSES)))


def _unpack(packed: bytes | None, as_of: int, known_at: int) -> list[Fact]:
    return visible(map(Fact._make, _FACT.iter_unpack(packed or b"")), as_of=as_of, known_at=known_at)


def _mask(members: tuple[object, ...], chosen: Iterable[object]) -> int:
    return sum(1 << members.index(member) for member in chosen)


def _flaws(event: ConsentEvent) -> int:
    """What makes a grant deny. A denial needs nothing to count."""
    flaws = 0
    if event.collection_method is CollectionMethod.GPC_SIGNAL:
        flaws |= GPC
    if not event.event_state.grants:
        return flaws
    sound = (
        event.schema_version == SCHEMA_VERSION
        and bool(event.purpose and event.content_kind)
        and event.entity_role is not EntityRole.CONTROLLER
        and (event.expires_at is None or event.expires_at > event.event_time)
        and (event.data_to is None or (event.data_from or event.event_time) <= event.data_to)
    )
    if event.entity_role is not EntityRole.ORG_ADMIN:
        informed = bool(event.notice_id) and event.notice_version >= 1
        sound = sound and informed and event.lawful_basis is LawfulBasis.CONSENT
    return flaws if sound else flaws | MALFORMED
