"""Events and conversations that the consent tests start from: Ann, Bob and Cy of one company, day by day."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from dp_train.consent.decisions import Reason
from dp_train.consent.events import AgeBand, CollectionMethod, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.consent.rules import ConsentRules
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn

KEY = PrincipalKey(b"the key of the tests, not a secret")
ORG = "acme"
SUMMARY, COMPOSE = Purpose.TRAIN_MEETING_SUMMARY, Purpose.TRAIN_CHAT_COMPOSE
CHAT, TRANSCRIPT = ContentKind.CHAT, ContentKind.TRANSCRIPT
RULES = ConsentRules(material_versions={"features": 2})


def day(number: float) -> datetime:
    """So many days after the first of January 2024."""
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)


AS_OF = day(100)


def event(person: str | None, state: EventState = EventState.GIVEN, when: float = 0, **changes: Any) -> ConsentEvent:
    """A well-formed event of an adult about everything, recorded at once."""
    fields: dict[str, Any] = {
        "record_id": f"{person}/{state.value}/{when}/{len(changes)}",
        "seq": 0,
        "pii_principal_id": None if person is None else KEY.pseudonym(person),
        "org_id": ORG,
        "entity_role": EntityRole.ORG_ADMIN if person is None else EntityRole.SELF,
        "purpose": frozenset(Purpose),
        "content_kind": frozenset(ContentKind),
        "event_state": state,
        "event_time": day(when),
        "recorded_time": day(when),
        "notice_id": "features",
        "notice_version": 2,
        "age_band": AgeBand.UNKNOWN if person is None else AgeBand.ADULT,
    }
    return ConsentEvent(**fields | changes)


def renewal(person: str | None, when: float, **changes: Any) -> ConsentEvent:
    """A renewed consent from the person's own hand, which alone lifts a lasting no."""
    return event(person, EventState.RENEWED, when, **{"collection_method": CollectionMethod.FORM, **changes})


COMPANY = event(None)


def registry(events: Iterable[ConsentEvent]) -> ConsentRegistry:
    return ConsentRegistry(events, rules=RULES, key=KEY)


def reason(
    *events: ConsentEvent, company: ConsentEvent | None = COMPANY, created: float = 50, as_of: float = 100, **asked: Any
) -> Reason:
    """What Ann's events decide about content of day 50, as of day 100."""
    question: dict[str, Any] = {"purpose": COMPOSE, "kind": CHAT, "org_id": ORG}
    everything = [*events, *([company] if company else [])]
    return registry(everything).decide("ann", created_at=day(created), as_of=day(as_of), **question | asked).reason


def snapshot(*events: ConsentEvent, agreeing: Iterable[str] = ()) -> ConsentSnapshot:
    """As of day 100: the company allows, the agreeing have granted, and what else happened."""
    return registry([COMPANY, *(event(person) for person in agreeing), *events]).snapshot(as_of=AS_OF)


def thread(*turns: Turn, created: float = 50, **changes: Any) -> Conversation:
    """A chat thread between Ann Archer, Bob Brix and Cy Cole, who may all be named."""
    fields: dict[str, Any] = {
        "conversation_id": "thread-1",
        "org_id": ORG,
        "created_at": day(created),
        "kind": ConversationKind.THREAD,
        "turns": turns,
        "roster": {"ann": "Ann Archer", "bob": "Bob Brix", "cy": "Cy Cole"},
    }
    return Conversation(**fields | changes)


def meeting(*turns: Turn, **changes: Any) -> Conversation:
    """A meeting of the same people with a summary."""
    defaults = {"conversation_id": "meeting-1", "kind": ConversationKind.MEETING, "summary": "They agreed."}
    return thread(*turns, **defaults | changes)


def says(person: str, text: str, **links: Any) -> Turn:
    """A chat message."""
    return Turn(person_id=person, text=text, kind=CHAT, **links)


class Listed:
    """A corpus of given conversations that counts how many were read."""

    name = "listed"

    def __init__(self, *conversations: Conversation) -> None:
        self._conversations = conversations
        self.read = 0

    def conversations(self) -> Iterator[Conversation]:
        for conversation in self._conversations:
            self.read += 1
            yield conversation
