"""What a set of consent facts decides: the decisions of docs/consent.md that concern one person.

Everything here is a pure function of a *set* of facts, so neither their order, nor a second delivery,
nor a late arrival can change what was decided; `registry` packs events into facts and calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import NamedTuple

from dp_train.consent.events import AgeBand, EntityRole, EventState
from dp_train.consent.rules import PURPOSES, PlaceLimits


class Reason(Enum):
    """Why: one code for every decision. Their order is written into Merkle roots: append only."""

    __hash__ = object.__hash__  # as that of ContentKind

    GRANTED = "granted"
    NO_RECORD = "no_record"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"
    NOT_DECIDED = "not_decided"
    OLD_NOTICE = "old_notice"
    OUTSIDE_DATA_WINDOW = "outside_data_window"
    PROCESSING_NOT_COVERED = "processing_not_covered"
    ORGANISATION_DENIES = "organisation_denies"
    MINOR_WITHOUT_GUARDIAN = "minor_without_guardian"
    AGE_UNKNOWN = "age_unknown"
    GUEST = "guest"
    FUTURE_EVENT = "future_event"
    MALFORMED = "malformed"
    GPC_SIGNAL = "gpc_signal"
    OTHER_PERSON_DENIES = "other_person_denies"
    TOO_MUCH_REMOVED = "too_much_removed"
    POLICY_DENIES = "policy_denies"
    HELD = "held"
    ORGANISATION_OUTSIDE_DATA_WINDOW = "organisation_outside_data_window"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one question, with its one reason; allowed exactly when the reason is GRANTED."""

    allowed: bool
    reason: Reason

    def __post_init__(self) -> None:
        if self.allowed != (self.reason is Reason.GRANTED):
            raise ValueError(f"decision: allowed={self.allowed} with reason {self.reason.value}; only granted allows")


DECISIONS: Mapping[Reason, Decision] = {reason: Decision(reason is Reason.GRANTED, reason) for reason in Reason}
"""The decision of each reason; decisions are shared values."""


ROLES = tuple(EntityRole)
STATES = tuple(EventState)
AGES = tuple(AgeBand)
REASONS = tuple(Reason)
MALFORMED, GPC = 1, 2
BEGIN, END = -(1 << 63), (1 << 63) - 1
"""No lower and no upper bound of a time in microseconds."""


class Fact(NamedTuple):
    """An event as decisions see it: enums as indices, sets as bit masks, times in µs since 1970 UTC."""

    role: int
    state: int
    age: int
    flaws: int
    purposes: int
    uncovered: int  # purposes for which the grant does not name the processing they need
    renews: int  # 1 for a renewed consent from the person's own hand, which alone lifts a lasting no
    kinds: int
    event_time: int
    recorded: int
    data_from: int
    data_to: int
    expires: int
    notice: int
    version: int
    place: int
    org: int
    seq: int
    record: bytes

    @property
    def effective(self) -> int:
        """Event time; a fact from the future denies from the moment we learnt of it."""
        return min(self.event_time, self.recorded)

    @property
    def flawed(self) -> bool:
        """Denies whatever its state says."""
        return bool(self.flaws) or self.event_time > self.recorded

    @property
    def grants(self) -> bool:
        return _GRANTS[self.state] and not self.flawed

    @property
    def lasts(self) -> bool:
        """A no that no later grant of a sync lifts."""
        return _LASTS[self.state] or bool(self.flaws & GPC)

    @property
    def precedence(self) -> tuple[int, int, int, bytes, int]:
        """The highest wins: latest, then more restrictive, then `seq`; record id and flaws make it total."""
        # GIVEN is the stricter grant: after a material change it does not allow, RENEWED does.
        happened, recorded = self.event_time, self.recorded
        grants = _GRANTS[self.state] and not self.flaws and happened <= recorded
        strictness = int(self.state == _GIVEN) if grants else 2
        return (happened if happened < recorded else recorded, strictness, self.seq, self.record, self.flaws)


class Outcome(NamedTuple):
    """What a person decided for one purpose and content kind, with the window of a grant."""

    reason: Reason
    data_from: int = 0
    data_to: int = 0


def visible(facts: Iterable[Fact], *, as_of: int, known_at: int) -> list[Fact]:
    """Facts that were known at `known_at` and had happened by `as_of`, each delivered event once.

    Copies of an event count as its first delivery. Copies that contradict each other are all kept,
    and all malformed: each denies what it names.
    """
    delivered = [fact for fact in facts if fact.recorded <= known_at]
    if len({fact.record for fact in delivered}) < len(delivered):
        delivered = _once(delivered)
    return [fact for fact in delivered if fact.event_time <= as_of or fact.recorded <= as_of]


def _once(facts: Iterable[Fact]) -> list[Fact]:
    copies: dict[bytes, list[Fact]] = {}
    for fact in facts:
        copies.setdefault(fact.record, []).append(fact)
    known: list[Fact] = []
    for same in copies.values():
        if len(same) == 1:
            known.append(same[0])
            continue
        versions: dict[Fact, Fact] = {}
        for fact in same:
            content = fact._replace(recorded=0, seq=0)
            first = versions.get(content, fact)
            versions[content] = fact._replace(recorded=min(first.recorded, fact.recorded), seq=min(first.seq, fact.seq))
        conflict = MALFORMED if len(versions) > 1 else 0
        known.extend(fact._replace(flaws=fact.flaws | conflict) for fact in versions.values())
    return known


_DENIALS: Mapping[EventState, Reason] = {
    EventState.REFUSED: Reason.REFUSED,
    EventState.WITHDRAWN: Reason.WITHDRAWN,
    EventState.REVOKED: Reason.REVOKED,
    EventState.EXPIRED: Reason.EXPIRED,
    EventState.INVALIDATED: Reason.INVALIDATED,
    EventState.REQUESTED: Reason.NOT_DECIDED,
    EventState.DEFERRED: Reason.NOT_DECIDED,
    EventState.UNKNOWN: Reason.NOT_DECIDED,
    EventState.HELD: Reason.HELD,
}

_SELF, _GUARDIAN, _ORG = (ROLES.index(role) for role in (EntityRole.SELF, EntityRole.GUARDIAN, EntityRole.ORG_ADMIN))
_UNKNOWN_AGE = AGES.index(AgeBand.UNKNOWN)
_GIVEN = STATES.index(EventState.GIVEN)
_GRANTS = tuple(state.grants for state in STATES)
_LASTS = tuple(state.lasts for state in STATES)
_DECIDES = tuple(state.decides for state in STATES)
_HELD, _RESOLVED = STATES.index(EventState.HELD), STATES.index(EventState.RESOLVED)
_MINOR = tuple(age.needs_guardian for age in AGES)


class Judge(NamedTuple):
    """Decides for one person at one time; `material` and `places` are the rules by notice and place index."""

    material: Mapping[int, int]
    age_matters: int
    as_of: int
    places: Mapping[int, PlaceLimits]

    def cells(self, facts: Sequence[Fact]) -> Iterator[tuple[int, int, Outcome]]:
        """(purpose index, kind mask, outcome) of every cell that a person spoke of, in a canonical order.

        Kinds of one purpose with equal outcomes are one cell; what is not named is NO_RECORD.
        """
        facts = _decided(facts)
        ranked, age = sorted(facts, key=attrgetter("precedence")), _age(facts)
        for purpose in range(len(PURPOSES)):
            spoken = [fact for fact in ranked if fact.purposes >> purpose & 1]
            if not spoken:
                continue
            outcomes: dict[Outcome, int] = {}
            masks = {fact.kinds for fact in spoken}
            if self.places:
                masks |= {self.places[fact.place].masks[purpose] for fact in spoken if fact.place in self.places} - {0}
            for kinds in _atoms(masks):
                outcome = self._outcome([fact for fact in spoken if fact.kinds & kinds], age, purpose, kinds)
                outcomes[outcome] = outcomes.get(outcome, 0) | kinds
            for outcome, kinds in sorted(outcomes.items(), key=lambda item: item[1]):
                if outcome.reason is not Reason.NO_RECORD:
                    yield purpose, kinds, outcome

    def _outcome(self, about: Sequence[Fact], age: int, purpose: int, kinds: int) -> Outcome:
        """What a person's facts about one purpose, the winning one last, decide for kinds that all of them name."""
        minor = _MINOR[age]
        # A guardian can consent for a child only; an organisation cannot consent for anybody.
        own = _standing([f for f in about if f.role != _ORG and (minor or f.role != _GUARDIAN or not f.grants)])
        outcome = self._latest(own, purpose, kinds)
        if outcome.reason is not Reason.GRANTED:
            return outcome
        if minor:
            guardian = self._latest([fact for fact in own if fact.role == _GUARDIAN], purpose, kinds)
            if guardian.reason is not Reason.GRANTED:
                return Outcome(Reason.MINOR_WITHOUT_GUARDIAN)
            outcome = _granted(max(outcome.data_from, guardian.data_from), min(outcome.data_to, guardian.data_to))
        elif age == _UNKNOWN_AGE and self.age_matters >> purpose & 1:
            return Outcome(Reason.AGE_UNKNOWN)
        voices = {fact.org for fact in about if fact.role == _ORG}
        for org in voices:
            said = [fact for fact in about if fact.role == _ORG and fact.org == org]
            word = self._latest(said, purpose, kinds)
            if word.reason is not Reason.GRANTED:
                return Outcome(Reason.ORGANISATION_DENIES)
        return outcome

    def organisation(self, facts: Sequence[Fact]) -> Iterator[tuple[int, int, Outcome]]:
        """The cells that an organisation allows, in a canonical order; all others it denies."""
        ranked = sorted(_decided(facts), key=attrgetter("precedence"))
        for purpose in range(len(PURPOSES)):
            spoken = [fact for fact in ranked if fact.purposes >> purpose & 1]
            outcomes: dict[Outcome, int] = {}
            for kinds in _atoms({fact.kinds for fact in spoken}):
                said = _standing([fact for fact in spoken if fact.kinds & kinds])
                outcome = self._latest(said, purpose, kinds)
                if outcome.reason is Reason.GRANTED:
                    outcomes[outcome] = outcomes.get(outcome, 0) | kinds
            for outcome, kinds in sorted(outcomes.items(), key=lambda item: item[1]):
                yield purpose, kinds, outcome

    def _latest(self, facts: Sequence[Fact], purpose: int, kinds: int) -> Outcome:
        """What the winning fact, the last, says at `as_of`."""
        if not facts:
            return Outcome(Reason.NO_RECORD)
        fact = facts[-1]
        reason = self._denial(fact, facts, purpose, kinds)
        return _granted(fact.data_from, fact.data_to) if reason is None else Outcome(reason)

    def _denial(self, fact: Fact, facts: Sequence[Fact], purpose: int, kinds: int) -> Reason | None:
        if fact.flaws & GPC:
            return Reason.GPC_SIGNAL
        if fact.flaws & MALFORMED:
            return Reason.MALFORMED
        if fact.flawed:
            return Reason.FUTURE_EVENT
        if not _GRANTS[fact.state]:
            return _DENIALS[STATES[fact.state]]
        if fact.uncovered >> purpose & 1:
            return Reason.PROCESSING_NOT_COVERED
        if fact.expires <= self.as_of:
            return Reason.EXPIRED
        limits = self.places.get(fact.place)
        if limits is not None and fact.role != _ORG:
            if limits.masks[purpose] & kinds:
                return Reason.POLICY_DENIES
            if limits.valid_for is not None and fact.event_time + limits.valid_for <= self.as_of:
                return Reason.EXPIRED
        material = self.material.get(fact.notice)
        if material is not None and fact.role != _ORG:
            # A flawed grant under the old notice counts here too: it can only ask for a renewal.
            outdated = any(_GRANTS[f.state] and f.notice == fact.notice and 1 <= f.version < material for f in facts)
            if fact.version < material or (fact.state == _GIVEN and outdated):
                return Reason.OLD_NOTICE
        return None


def _decided(facts: Sequence[Fact]) -> Sequence[Fact]:
    """The facts that say something about consent: no records of the store, and no holds that were decided about."""
    if all(_DECIDES[fact.state] and fact.state != _HELD for fact in facts):
        return facts
    resolved = [fact.effective for fact in facts if fact.state == _RESOLVED and not fact.flawed]
    until = max(resolved, default=BEGIN)
    return [f for f in facts if _DECIDES[f.state] and not (f.state == _HELD and f.effective <= until)]


def _standing(ranked: Sequence[Fact]) -> Sequence[Fact]:
    """Facts in order of precedence, without the grants that came after a lasting no and do not renew."""
    if not any(fact.lasts for fact in ranked):
        return ranked
    standing, denied = [], False
    for fact in ranked:
        if fact.lasts:
            denied = True
        elif fact.grants:
            if denied and not fact.renews:
                continue
            denied = False
        standing.append(fact)
    return standing


def _granted(data_from: int, data_to: int) -> Outcome:
    """A grant for a window; an empty window has one form only, so that equal decisions have equal roots."""
    return Outcome(Reason.GRANTED, data_from, data_to) if data_from <= data_to else Outcome(Reason.OUTSIDE_DATA_WINDOW)


def _atoms(masks: set[int]) -> list[int]:
    """Coarsest partition of the union of the masks in which each mask is a union of parts."""
    if len(masks) == 1:
        return [*masks]
    parts: list[int] = []
    for mask in masks:
        split = [part for old in parts for part in (old & mask, old & ~mask) if part]
        for part in parts:
            mask &= ~part
        parts = [*split, mask] if mask else split
    return parts


def _age(facts: Sequence[Fact]) -> int:
    """Index of the latest age band that was stated, the youngest at a tie.

    A flawed fact, and an organisation's, can make a person a minor, never of age.
    """
    latest: tuple[int, int] | None = None
    for fact in facts:
        if fact.age != _UNKNOWN_AGE and (_MINOR[fact.age] or not (fact.flawed or fact.role == _ORG)):
            # AGES run from the youngest to the oldest.
            latest = max(latest or (BEGIN, 0), (fact.effective, -fact.age))
    return _UNKNOWN_AGE if latest is None else -latest[1]
