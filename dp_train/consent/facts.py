"""Events as the facts that decisions are made from, for the registry in memory and for the store alike.

What many events share (role, notice, purposes, …) is a `Terms`; it is worked out once and joined with the times
and ids of each event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from dp_train.consent.decisions import AGES, END, GPC, MALFORMED, ROLES, STATES, Fact, Judge
from dp_train.consent.events import (
    SCHEMA_VERSION,
    CollectionMethod,
    ConsentEvent,
    EntityRole,
    LawfulBasis,
    renews,
)
from dp_train.consent.rules import (
    ALL_KINDS,
    ALL_PURPOSES,
    KINDS,
    PURPOSES,
    REQUIRED_PROCESSING,
    ConsentRules,
    PlaceLimits,
)
from dp_train.errors import ConsentError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CONSENT_ALONE = frozenset({LawfulBasis.CONSENT})
_RESEARCH_TOO = _CONSENT_ALONE | {LawfulBasis.RESEARCH}


def microseconds(value: datetime) -> int:
    """Whole microseconds since 1970 UTC.

    Raises:
      ConsentError: the time has no time zone.
    """
    if value.tzinfo is None:
        raise ConsentError("consent: a time has no time zone; give as_of, known_at and created_at with an offset")
    return (value - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """The time of so many microseconds since 1970 UTC; the first or last there is where a store holds one beyond.

    Older versions stored such times (9999-12-31T23:59 west of Greenwich). Decisions compare the numbers themselves.
    """
    return _EPOCH + timedelta(microseconds=min(max(value, _FIRST), _LAST))


_FIRST, _LAST = (microseconds(end.replace(tzinfo=UTC)) for end in (datetime.min, datetime.max))


class Terms(NamedTuple):
    """What an event says apart from whom, where and when: indices and bit masks, as in `Fact`."""

    role: int
    state: int
    age: int
    flaws: int
    purposes: int
    uncovered: int
    renews: int
    kinds: int
    notice: int
    version: int
    place: int
    grants: bool


class Vocabulary:
    """Numbers for notices, organisations and jurisdictions, and what the rules say of each.

    The judge that it makes learns of names that are numbered later too, so events may still stream in.
    """

    def __init__(self, rules: ConsentRules) -> None:
        self._rules = rules
        self._numbers: dict[tuple[str, str], int] = {}
        self._material: dict[int, int] = {}
        self._places: dict[int, PlaceLimits] = {}

    @property
    def bases(self) -> frozenset[LawfulBasis]:
        """Those under which a person's grant counts."""
        return _RESEARCH_TOO if self._rules.research_only else _CONSENT_ALONE

    def notice(self, notice_id: str) -> int:
        known = self._numbers.get(("notice", notice_id))
        if known is None:
            known = self._new("notice", notice_id)
            if notice_id in self._rules.material_versions:
                self._material[known] = self._rules.material_versions[notice_id]
        return known

    def organisation(self, org_id: str) -> int:
        known = self._numbers.get(("org", org_id))
        return self._new("org", org_id) if known is None else known

    def place(self, jurisdiction: str) -> int:
        known = self._numbers.get(("place", jurisdiction))
        if known is None:
            known = self._new("place", jurisdiction)
            limits = self._rules.limits(jurisdiction)
            if limits is not None:
                self._places[known] = limits
        return known

    def judge(self, as_of: int) -> Judge:
        """Decides as of a time in µs."""
        age_matters = sum(1 << PURPOSES.index(purpose) for purpose in self._rules.age_matters)
        return Judge(self._material, age_matters, as_of, self._places)

    def _new(self, kind: str, name: str) -> int:
        return self._numbers.setdefault((kind, name), len(self._numbers))


def terms_of(event: ConsentEvent, words: Vocabulary) -> Terms:
    """What of an event does not depend on its times and ids."""
    uncovered = 0
    if event.processing:
        uncovered = _mask(PURPOSES, {p for p in PURPOSES if not REQUIRED_PROCESSING[p] <= event.processing})
    return Terms(
        role=ROLES.index(event.entity_role),
        state=STATES.index(event.event_state),
        age=AGES.index(event.age_band),
        flaws=_flaws(event, words.bases),
        # A denial, or a malformed grant, that does not say of what is about everything.
        purposes=_mask(PURPOSES, event.purpose) or ALL_PURPOSES,
        uncovered=uncovered,
        renews=int(renews(event)),
        kinds=_mask(KINDS, event.content_kind) or ALL_KINDS,
        notice=words.notice(event.notice_id),
        version=event.notice_version,
        place=words.place(event.jurisdiction),
        grants=event.event_state.grants,
    )


def fact_of(
    terms: Terms,
    *,
    event_time: int,
    recorded: int,
    arrived: int,
    data_from: int | None,
    data_to: int | None,
    expires: int | None,
    org: int,
    seq: int,
    record_id: str,
) -> Fact:
    """The fact of an event: its terms, its times in µs (None where it names none), its organisation's number.

    What is in our hands was learnt by then, whatever the source's clock says: `recorded` is never after `arrived`.
    So a denial counts from the earlier of its event time and its arrival, and a grant from the future denies.
    """
    recorded = min(recorded, arrived)
    begin = event_time if data_from is None else data_from
    flaws = terms.flaws
    if terms.grants and ((expires is not None and expires <= event_time) or (data_to is not None and begin > data_to)):
        flaws |= MALFORMED
    return Fact(  # by position, which is twice as fast, for it is done for every event there is
        terms.role,
        terms.state,
        terms.age,
        flaws,
        terms.purposes,
        terms.uncovered,
        terms.renews,
        terms.kinds,
        event_time,
        recorded,
        begin,
        END if data_to is None else data_to,
        END if expires is None else expires,
        terms.notice,
        terms.version,
        terms.place,
        org,
        seq,
        hashlib.blake2b(record_id.encode("utf-8", "surrogatepass"), digest_size=16).digest(),
    )


def optional_microseconds(value: datetime | None) -> int | None:
    """`microseconds`, of a time that may be missing."""
    return None if value is None else microseconds(value)


def _mask(members: tuple[object, ...], chosen: Iterable[object]) -> int:
    return sum(1 << members.index(member) for member in chosen)


def _flaws(event: ConsentEvent, bases: frozenset[LawfulBasis]) -> int:
    """What makes a grant deny, apart from its times. A denial needs nothing to count."""
    flaws = 0
    if event.collection_method is CollectionMethod.GPC_SIGNAL:
        flaws |= GPC
    if not event.event_state.grants:
        return flaws
    sound = (
        event.schema_version == SCHEMA_VERSION
        and bool(event.purpose and event.content_kind)
        and event.entity_role is not EntityRole.CONTROLLER
    )
    if event.entity_role is not EntityRole.ORG_ADMIN:
        informed = bool(event.notice_id) and event.notice_version >= 1
        sound = sound and informed and event.lawful_basis in bases
    return flaws if sound else flaws | MALFORMED
