"""The consent history of a population: what each person, guardian and organisation decided, and when.

PRIVATE holds every case of docs/consent.md, Decisions, in fixed numbers a block, so that about four people in
five are allowed and a meeting of three usually passes. In PUBLIC all agreed to publication and training,
in EVALUATION to publication alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from dp_train.consent.events import AgeBand, CollectionMethod, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.rules import ConsentRules
from dp_train.conversations import ContentKind
from dp_train.corpora.synthetic.dice import Dice
from dp_train.corpora.synthetic.people import BLOCK, COMPANY_SIZES, Block, Company, Population

NOTICE_ID = "conversation-features"
NOTICE_VERSION = 2
"""The notice in force; its last change was a material one."""

RULES = ConsentRules(material_versions={NOTICE_ID: NOTICE_VERSION})
"""What a `ConsentRegistry` of the history has to know."""

HISTORY_END = datetime(2026, 1, 15, tzinfo=UTC)
"""From here on no decision changes any more: the time to make snapshots for."""

DENYING_SIZE = 12
"""The company of this size in each block does not allow training."""


class ConsentCase(Enum):
    """What became of a person's consent; decisions are meant as of HISTORY_END and under RULES."""

    GRANTED = "granted"
    RENEWED = "renewed"
    GRANTED_AGAIN = "granted_again"
    SIXTEEN = "sixteen"
    MINOR_WITH_GUARDIAN = "minor_with_guardian"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    WITHDRAWN_LATE = "withdrawn_late"
    """Withdrawn in June, which became known in November."""
    EXPIRED = "expired"
    OLD_NOTICE = "old_notice"
    MINOR_WITHOUT_GUARDIAN = "minor_without_guardian"
    GUARDIAN_WITHDREW = "guardian_withdrew"
    AGE_UNKNOWN = "age_unknown"
    NO_EVENTS = "no_events"
    NOT_DECIDED = "not_decided"
    FUTURE_EVENT = "future_event"
    SAME_TIME = "same_time"
    """Granted and refused at one time: the refusal counts."""
    INVALIDATED = "invalidated"
    GPC_SIGNAL = "gpc_signal"
    FIRST_HALF_ONLY = "first_half_only"
    """A grant for what was said before July 2025."""
    TRANSCRIPTS_ONLY = "transcripts_only"
    CHAT_ONLY = "chat_only"
    ORGANISATION_DENIES = "organisation_denies"
    """The person grants; the organisation does not."""
    GUEST = "guest"
    """Takes part in a meeting without an account and without events; not one of the `people`."""


_PER_BLOCK: Mapping[ConsentCase, int] = {
    ConsentCase.RENEWED: 24,
    ConsentCase.GRANTED_AGAIN: 3,
    ConsentCase.SIXTEEN: 2,
    ConsentCase.MINOR_WITH_GUARDIAN: 2,
    ConsentCase.REFUSED: 4,
    ConsentCase.WITHDRAWN: 3,
    ConsentCase.WITHDRAWN_LATE: 2,
    ConsentCase.EXPIRED: 2,
    ConsentCase.OLD_NOTICE: 3,
    ConsentCase.MINOR_WITHOUT_GUARDIAN: 1,
    ConsentCase.GUARDIAN_WITHDREW: 1,
    ConsentCase.AGE_UNKNOWN: 1,
    ConsentCase.NO_EVENTS: 2,
    ConsentCase.NOT_DECIDED: 1,
    ConsentCase.FUTURE_EVENT: 1,
    ConsentCase.SAME_TIME: 1,
    ConsentCase.INVALIDATED: 1,
    ConsentCase.GPC_SIGNAL: 1,
    ConsentCase.FIRST_HALF_ONLY: 3,
    ConsentCase.TRANSCRIPTS_ONLY: 3,
    ConsentCase.CHAT_ONLY: 3,
}
_OTHERS = BLOCK - DENYING_SIZE
_DECK = tuple(case for case, count in _PER_BLOCK.items() for _ in range(count))
_CASES = _DECK + (ConsentCase.GRANTED,) * (_OTHERS - len(_DECK))
assert DENYING_SIZE in COMPANY_SIZES

_TRAINING = frozenset({Purpose.TRAIN_MEETING_SUMMARY, Purpose.TRAIN_CHAT_COMPOSE, Purpose.PROVIDE_FEATURE})
_PURPOSES: Mapping[Population, frozenset[Purpose]] = {
    Population.PUBLIC: frozenset(Purpose),
    Population.PRIVATE: _TRAINING,
    Population.EVALUATION: frozenset({Purpose.PUBLISH, Purpose.PROVIDE_FEATURE}),
}
_KINDS = frozenset(ContentKind)
_SPOKEN = frozenset({ContentKind.TRANSCRIPT, ContentKind.AUDIO, ContentKind.VIDEO, ContentKind.SCREEN_SHARE})
_CHAT = frozenset({ContentKind.CHAT, ContentKind.REACTION, ContentKind.POLL})

_FIRST_ASKED = datetime(2024, 3, 4, 9, tzinfo=UTC)
_NOTICE_CHANGED = datetime(2024, 12, 2, 9, tzinfo=UTC)
_MIDSUMMER = datetime(2025, 6, 30, 23, 59, 59, tzinfo=UTC)
_DIGESTS = tuple(hashlib.sha256(f"{NOTICE_ID} {version}".encode()).hexdigest() for version in range(1, 3))


def cases(seed: int, population: Population, block: Block) -> dict[int, ConsentCase]:
    """Index → case of everyone in a block."""
    if population is not Population.PRIVATE:
        return dict.fromkeys((person.index for person in block.people), ConsentCase.GRANTED)
    deck = iter(Dice(seed, population.value, "consent", block.number).order(_CASES))
    return {
        person.index: ConsentCase.ORGANISATION_DENIES if person.company.size == DENYING_SIZE else next(deck)
        for person in block.people
    }


def consent_events(
    seed: int, population: Population, block: Block, key: PrincipalKey, first: int
) -> Iterator[ConsentEvent]:
    """Events of a block's companies and people; `first` is the `seq` of the first."""
    writer = _Writer(Dice(seed, population.value, "events", block.number), population, block.number, key, first)
    for team in block.teams:
        yield from writer.company(team.company, block.number)
    case_of = cases(seed, population, block)
    for person in block.people:
        yield from writer.person(person.person_id, person.company.org_id, case_of[person.index])


class _Writer:
    """Numbers events, and fills in what belongs to each."""

    def __init__(self, dice: Dice, population: Population, block: int, key: PrincipalKey, first: int) -> None:
        self._dice = dice
        self._population = population
        self._key = key
        self._seq = first
        self._records = f"{population.prefix}-consent-{block:05d}"
        self._count = 0

    def company(self, company: Company, block: int) -> Iterator[ConsentEvent]:
        common: dict[str, Any] = {
            "pii_principal_id": None,
            "org_id": company.org_id,
            "entity_role": EntityRole.ORG_ADMIN,
            "purpose": _PURPOSES[self._population],
            "content_kind": _KINDS,
            "collection_method": CollectionMethod.ADMIN_CONSOLE,
        }
        if self._population is not Population.PRIVATE or company.size != DENYING_SIZE:
            yield self._event(EventState.GIVEN, self._moment(_FIRST_ASKED, 60), **common)
        elif block % 2 == 0:
            yield self._event(EventState.REFUSED, self._moment(_FIRST_ASKED, 60), **common)
        else:
            yield self._event(EventState.GIVEN, self._moment(_FIRST_ASKED, 60), **common)
            yield self._event(EventState.WITHDRAWN, self._moment(_NOTICE_CHANGED, 60), **common)

    def person(self, person_id: str, org_id: str, case: ConsentCase) -> Iterator[ConsentEvent]:
        """The events of one person, in the order in which they happened."""
        dice, moment, event = self._dice, self._moment, self._event
        common: dict[str, Any] = {
            "pii_principal_id": self._key.pseudonym(person_id),
            "org_id": org_id,
            "entity_role": EntityRole.SELF,
            "purpose": _PURPOSES[self._population],
            "content_kind": _KINDS,
            "age_band": AgeBand.ADULT,
            "notice_id": NOTICE_ID,
            "notice_version": NOTICE_VERSION,
            "notice_sha256": _DIGESTS[NOTICE_VERSION - 1],
            "language": "en",
            "jurisdiction": dice.pick(("DE", "FR", "IE", "GB", "US-CA", "US-NY", "JP", "PT")),
            "collection_method": CollectionMethod.FORM,
        }
        early, late = moment(_FIRST_ASKED, 200), moment(_NOTICE_CHANGED, 50)
        old: dict[str, Any] = {"notice_version": 1, "notice_sha256": _DIGESTS[0]}
        match case:
            case ConsentCase.GRANTED | ConsentCase.ORGANISATION_DENIES:
                yield event(EventState.GIVEN, late, **common)
            case ConsentCase.RENEWED:
                yield event(EventState.GIVEN, early, **common | old)
                yield event(EventState.RENEWED, late, **common)
            case ConsentCase.GRANTED_AGAIN:
                yield event(EventState.GIVEN, late, **common)
                yield event(EventState.WITHDRAWN, late + timedelta(days=2), **common)
                yield event(EventState.RENEWED, late + timedelta(days=5), **common)
            case ConsentCase.SIXTEEN:
                yield event(EventState.GIVEN, late, **common | {"age_band": AgeBand.FROM_16_TO_17})
            case ConsentCase.MINOR_WITH_GUARDIAN | ConsentCase.GUARDIAN_WITHDREW:
                minor = common | {"age_band": AgeBand.FROM_13_TO_15}
                guardian = minor | {
                    "entity_role": EntityRole.GUARDIAN,
                    "entity_id": self._key.pseudonym(f"guardian of {person_id}"),
                }
                yield event(EventState.GIVEN, late, **minor)
                yield event(EventState.GIVEN, late + timedelta(days=1), **guardian)
                if case is ConsentCase.GUARDIAN_WITHDREW:
                    yield event(EventState.WITHDRAWN, late + timedelta(days=120), **guardian)
            case ConsentCase.MINOR_WITHOUT_GUARDIAN:
                yield event(EventState.GIVEN, late, **common | {"age_band": AgeBand.FROM_13_TO_15})
            case ConsentCase.REFUSED:
                yield event(EventState.REFUSED, late, **common)
            case ConsentCase.WITHDRAWN:
                yield event(EventState.GIVEN, late, **common)
                yield event(EventState.WITHDRAWN, moment(_MIDSUMMER, 60), **common | {"withdrawal_method": "settings"})
            case ConsentCase.WITHDRAWN_LATE:
                yield event(EventState.GIVEN, late, **common)
                yield event(
                    EventState.WITHDRAWN,
                    _MIDSUMMER - timedelta(days=dice.between(1, 20)),
                    recorded=moment(_MIDSUMMER + timedelta(days=125), 20),
                    **common | {"withdrawal_method": "letter", "collection_method": CollectionMethod.PAPER},
                )
            case ConsentCase.EXPIRED:
                yield event(EventState.GIVEN, late, expires_at=moment(_MIDSUMMER, 90), **common)
            case ConsentCase.OLD_NOTICE:
                yield event(EventState.GIVEN, early, **common | old)
            case ConsentCase.AGE_UNKNOWN:
                yield event(EventState.GIVEN, late, **common | {"age_band": AgeBand.UNKNOWN})
            case ConsentCase.NOT_DECIDED:
                yield event(EventState.REQUESTED, late, **common)
            case ConsentCase.FUTURE_EVENT:
                yield event(EventState.GIVEN, datetime(2090, 1, 1, tzinfo=UTC), recorded=late, **common)
            case ConsentCase.SAME_TIME:
                yield event(EventState.REFUSED, late, **common)
                yield event(EventState.GIVEN, late, **common)
            case ConsentCase.INVALIDATED:
                yield event(EventState.GIVEN, late, **common)
                controller = {"entity_role": EntityRole.CONTROLLER, "collection_method": CollectionMethod.SYSTEM}
                yield event(EventState.INVALIDATED, moment(_MIDSUMMER, 60), **common | controller)
            case ConsentCase.GPC_SIGNAL:
                yield event(EventState.GIVEN, late, **common)
                signal = common | {"collection_method": CollectionMethod.GPC_SIGNAL}
                yield event(EventState.WITHDRAWN, moment(_MIDSUMMER, 60), **signal)
            case ConsentCase.FIRST_HALF_ONLY:
                yield event(EventState.GIVEN, late, data_to=_MIDSUMMER, **common)
            case ConsentCase.TRANSCRIPTS_ONLY:
                yield event(EventState.GIVEN, late, **common | {"content_kind": _SPOKEN})
            case ConsentCase.CHAT_ONLY:
                yield event(EventState.GIVEN, late, **common | {"content_kind": _CHAT})
            case ConsentCase.NO_EVENTS | ConsentCase.GUEST:
                return

    def _moment(self, start: datetime, days: int) -> datetime:
        """A time within `days` after `start`."""
        return start + timedelta(seconds=self._dice.below(days * 86_400))

    def _event(
        self, state: EventState, when: datetime, *, recorded: datetime | None = None, **fields: Any
    ) -> ConsentEvent:
        event = ConsentEvent(
            record_id=f"{self._records}-{self._count:04d}",
            seq=self._seq,
            event_state=state,
            event_time=when,
            recorded_time=recorded if recorded is not None else when + timedelta(seconds=self._dice.between(1, 600)),
            **fields,
        )
        self._seq += 1
        self._count += 1
        return event
