"""Consent events: append-only records of what a person, guardian, organisation or controller decided.

Field names follow ISO/IEC TS 27560:2023, states the W3C Data Privacy Vocabulary (DPV 2). An event is
a plain value: its types are checked here, whether it may count is decided in `registry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from dp_train.conversations import ContentKind
from dp_train.errors import DataError
from dp_train.words import Word

SCHEMA_VERSION = "1"
"""The only schema version that a grant may carry today."""


class _Word(Word):
    """Words of events."""

    __hash__ = object.__hash__  # as that of ContentKind


class Purpose(_Word):
    """What content may be used for. PUBLISH means that its text may be shown outside."""

    TRAIN_MEETING_SUMMARY = "train_meeting_summary"
    TRAIN_CHAT_COMPOSE = "train_chat_compose"
    PROVIDE_FEATURE = "provide_feature"
    PUBLISH = "publish"


class EventState(_Word):
    """State of consent after the event, by its DPV name. Only the first two can ever allow.

    The last five are words of the store itself, and a file may bring none of them but HELD and LINKED and, as an export
    writes it, ERASED: HELD is an event whose person
    could be read and whose meaning could not; RESOLVED says that an officer has decided about the holds before it;
    LINKED says that `entity_id` is another id of the same person; ERASED is the tombstone of a person who was erased;
    EXPUNGED says that what was past its date was removed (`retention`).
    """

    GIVEN = "ConsentGiven"
    RENEWED = "RenewedConsentGiven"
    REFUSED = "ConsentRefused"
    WITHDRAWN = "ConsentWithdrawn"
    REVOKED = "ConsentRevoked"
    EXPIRED = "ConsentExpired"
    INVALIDATED = "ConsentInvalidated"
    REQUESTED = "ConsentRequested"
    DEFERRED = "ConsentRequestDeferred"
    UNKNOWN = "ConsentUnknown"
    HELD = "ConsentHeld"
    RESOLVED = "HoldResolved"
    LINKED = "IdentitiesLinked"
    ERASED = "PersonErased"
    EXPUNGED = "RetentionApplied"

    @property
    def decides(self) -> bool:
        """Whether the event says something about consent; the others are records of the store."""
        return self not in (EventState.RESOLVED, EventState.LINKED, *NOBODYS)

    @property
    def lasts(self) -> bool:
        """Whether a no of this state outlasts every grant but one that the person made; see `renews`."""
        return self in (EventState.WITHDRAWN, EventState.REVOKED, EventState.HELD)

    @property
    def grants(self) -> bool:
        """Whether the state can allow anything."""
        return self in (EventState.GIVEN, EventState.RENEWED)


NOBODYS = (EventState.ERASED, EventState.EXPUNGED)
"""States of events that are about no person: records that the store keeps of itself."""


class EntityRole(_Word):
    """Who speaks in the event. Only SELF, or GUARDIAN for a minor, can grant for a person."""

    SELF = "self"
    GUARDIAN = "guardian"
    ORG_ADMIN = "org_admin"
    CONTROLLER = "controller"


class AgeBand(_Word):
    """Age of the person at the time of the event."""

    UNDER_13 = "under_13"
    FROM_13_TO_15 = "13_to_15"
    FROM_16_TO_17 = "16_to_17"
    ADULT = "adult"
    UNKNOWN = "unknown"

    @property
    def needs_guardian(self) -> bool:
        """Under 16: only a guardian's consent allows."""
        return self in (AgeBand.UNDER_13, AgeBand.FROM_13_TO_15)


class LawfulBasis(_Word):
    """Article 6 GDPR. A person's grant counts under CONSENT alone.

    RESEARCH is none of them: it marks the records that are made for a public benchmark, whose people were never
    asked. They count only where `ConsentRules.research_only` says so.
    """

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    VITAL_INTERESTS = "vital_interests"
    PUBLIC_TASK = "public_task"
    LEGITIMATE_INTERESTS = "legitimate_interests"
    RESEARCH = "research"


class Processing(_Word):
    """Operations on content. An event that names none speaks of all that its purposes need."""

    COLLECT = "collect"
    STORE = "store"
    ANALYSE = "analyse"
    ANONYMISE = "anonymise"
    TRAIN = "train"
    DISCLOSE = "disclose"


class PiiType(_Word):
    """Kinds of personal data that the notice names; informative, no decision depends on them."""

    NAME = "name"
    CONTACT = "contact"
    VOICE = "voice"
    IMAGE = "image"
    TEXT = "text"
    LOCATION = "location"
    FINANCIAL = "financial"
    IDENTIFIER = "identifier"


class CollectionMethod(_Word):
    """How the event was collected. A Global Privacy Control signal is a denial whatever its state says."""

    FORM = "form"
    ADMIN_CONSOLE = "admin_console"
    API = "api"
    IMPORT = "import"
    PAPER = "paper"
    VERBAL = "verbal"
    SYSTEM = "system"
    GPC_SIGNAL = "gpc_signal"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentEvent:
    """One decision, as it was recorded; never changed afterwards.

    A **person's** event has the person's pseudonym in `pii_principal_id`. To be a grant that counts
    it needs a GIVEN or RENEWED state, at least one purpose and content kind, a notice id and version,
    the CONSENT basis, the role SELF (or GUARDIAN under 16), and, for training and publishing,
    an `age_band` other than UNKNOWN in this or another event of the person.

    An **organisation's** event has `pii_principal_id=None`, the role ORG_ADMIN and the `org_id`; an
    organisation without a record denies, so each one that takes part needs a GIVEN event.

    Attributes:
      record_id: names the event; the same event delivered twice carries the same id.
      seq: position in the store, ≥ 0; the last tie-break between events of one time.
      pii_principal_id: `PrincipalKey.pseudonym` of the person, 64 hex digits; None for an organisation.
      org_id: the organisation in whose context the event was collected.
      entity_id: pseudonym of who acted, where that is not the person.
      purpose, content_kind: what the event speaks of. A denial that names none denies all.
      event_time: when it was decided. `recorded_time`: when we learnt of it, not before `event_time`.
      data_from, data_to: creation times that a grant covers, both ends included. `data_from` None
        means from `event_time` on, for a grant is not retroactive; an earlier `data_from` records that
        the notice said so. `data_to` None means without end.
      expires_at: from this time on a grant no longer allows.
      notice_version: counts up from 1.
      operator, reason: who entered the event, and why, where a member of staff did; no names of the person in it.
      prev_hash, event_hash: link of the store's hash chain, empty outside a store.
    """

    record_id: str
    seq: int
    pii_principal_id: str | None
    org_id: str
    entity_role: EntityRole
    purpose: frozenset[Purpose]
    content_kind: frozenset[ContentKind]
    event_state: EventState
    event_time: datetime
    recorded_time: datetime
    schema_version: str = SCHEMA_VERSION
    prev_hash: str = ""
    event_hash: str = ""
    entity_id: str | None = None
    processing: frozenset[Processing] = frozenset()
    pii_type: frozenset[PiiType] = frozenset()
    notice_id: str = ""
    notice_version: int = 0
    notice_sha256: str = ""
    language: str = ""
    jurisdiction: str = ""
    lawful_basis: LawfulBasis = LawfulBasis.CONSENT
    data_from: datetime | None = None
    data_to: datetime | None = None
    expires_at: datetime | None = None
    collection_method: CollectionMethod | None = None
    evidence_ref: str = ""
    withdrawal_method: str = ""
    age_band: AgeBand = AgeBand.UNKNOWN
    operator: str = ""
    reason: str = ""

    @classmethod
    def of_store(
        cls,
        record_id: str,
        state: EventState,
        *,
        at: datetime,
        recorded: datetime,
        evidence_ref: str,
        operator: str = "",
        reason: str = "",
    ) -> ConsentEvent:
        """Make a record that the store keeps of itself: about no person, no purpose and no content."""
        return cls(
            record_id=record_id,
            seq=0,
            pii_principal_id=None,
            org_id="",
            entity_role=EntityRole.CONTROLLER,
            purpose=frozenset(),
            content_kind=frozenset(),
            event_state=state,
            event_time=at,
            recorded_time=recorded,
            evidence_ref=evidence_ref,
            operator=operator,
            reason=reason,
        )

    def __post_init__(self) -> None:
        if not self.record_id:
            raise DataError("consent event: record_id is empty; every event needs an id of its own")
        if not 0 <= self.seq < _MOST_SEQ:
            raise DataError(f"consent event: seq={self.seq}; expected a position from 0 to 2⁶³ − 1")
        if not 0 <= self.notice_version < _MOST_VERSION:
            raise DataError(f"consent event: notice_version={self.notice_version}; expected 0 to 2³² − 1")
        for name in ("event_time", "recorded_time", "data_from", "data_to", "expires_at"):
            value: datetime | None = getattr(self, name)
            if value is not None and value.tzinfo is None:
                raise DataError(f"consent event: {name} has no time zone; write it as ISO 8601 with an offset")
            if value is not None and value.year in _ENDS and not _is_in_utc(value):
                raise DataError(
                    f"consent event: {name} lies outside the years 1 to 9999 in UTC; leave out an end that never is"
                )
        principal = self.pii_principal_id
        if principal is None:
            if self.entity_role is not EntityRole.ORG_ADMIN and self.event_state not in NOBODYS:
                raise DataError(
                    f"consent event: no pii_principal_id with role {self.entity_role.value}; "
                    "only an event of the role org_admin speaks for an organisation"
                )
        elif not is_pseudonym(principal):
            raise DataError(
                "consent event: pii_principal_id is not a pseudonym; expected the 64 lower-case hex digits "
                "of PrincipalKey.pseudonym, never a name or an account"
            )


_MOST_SEQ, _MOST_VERSION = 1 << 63, 1 << 32
_ENDS = (datetime.min.year, datetime.max.year)
_OWN_HAND = frozenset({CollectionMethod.FORM, CollectionMethod.PAPER, CollectionMethod.VERBAL})


def renews(event: ConsentEvent) -> bool:
    """Whether an event may lift a lasting no: a renewed consent that came from the person's own hand.

    That is the state RENEWED, in the role SELF (or GUARDIAN), collected by FORM, PAPER or VERBAL; for an organisation,
    in the role ORG_ADMIN, also by ADMIN_CONSOLE. What a sync brings (IMPORT, API, SYSTEM, or no method) never does,
    whatever its time or its record id.
    """
    if event.event_state is not EventState.RENEWED:
        return False
    by_console = event.entity_role is EntityRole.ORG_ADMIN and event.collection_method is CollectionMethod.ADMIN_CONSOLE
    return by_console or (event.collection_method in _OWN_HAND and event.entity_role is not EntityRole.CONTROLLER)


def denies(event: ConsentEvent) -> bool:
    """Whether an event can only deny: by its state, or as a GPC signal."""
    return event.event_state.decides and (
        not event.event_state.grants or event.collection_method is CollectionMethod.GPC_SIGNAL
    )


def is_pseudonym(value: str) -> bool:
    """Whether a text has the form of `PrincipalKey.pseudonym`: 64 lower-case hex digits."""
    return len(value) == 64 and not value.strip("0123456789abcdef")


def _is_in_utc(value: datetime) -> bool:
    """Whether a time can be read back, which is in UTC."""
    try:
        value.astimezone(UTC)
    except OverflowError:
        return False
    return True
