"""Small conversations, and what the real gate makes of them when everyone agreed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dp_train.consent.events import AgeBand, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.gate import ConsentedCorpus, ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Example, Turn

NOW = datetime(2025, 6, 1, tzinfo=UTC)
KEY = PrincipalKey(b"k" * 32)
TEXTS = [
    "we agreed to ship the report on friday",
    "[P1] will send the budget to [P2] before noon",
    "can you look at the report, please?",
    "the meeting is moved to monday; bring the numbers",
] * 4


@dataclass(frozen=True)
class Talks:
    """A corpus of given conversations."""

    talks: tuple[Conversation, ...]
    name: str = "talks"

    def conversations(self) -> Iterator[Conversation]:
        return iter(self.talks)


def consented(*talks: Conversation, purpose: Purpose) -> ConsentedCorpus:
    """The conversations past the gate; everyone in them agreed to `purpose` and to nothing else."""
    people = sorted({person for talk in talks for person in (*talk.people, *talk.roster)})
    events = [_event(number, KEY.pseudonym(person), purpose) for number, person in enumerate(people, 1)]
    registry = ConsentRegistry([_event(0, None, purpose), *events], key=KEY)
    return gate(Talks(talks), registry.snapshot(as_of=NOW), ConsentPolicy(purpose=purpose))


def _event(number: int, pseudonym: str | None, purpose: Purpose) -> ConsentEvent:
    return ConsentEvent(
        record_id=f"r{number}",
        seq=number,
        pii_principal_id=pseudonym,
        org_id="org",
        entity_role=EntityRole.SELF if pseudonym else EntityRole.ORG_ADMIN,
        purpose=frozenset({purpose}),
        content_kind=frozenset({ContentKind.CHAT, ContentKind.TRANSCRIPT}),
        event_state=EventState.GIVEN,
        event_time=NOW - timedelta(days=30),
        recorded_time=NOW - timedelta(days=30),
        notice_id="notice",
        notice_version=1,
        age_band=AgeBand.ADULT,
    )


def meeting(*turns: tuple[str, str], summary: str | None = "they met", **fields: object) -> Conversation:
    people = dict.fromkeys(person for person, _ in turns)
    values: dict[str, object] = {
        "conversation_id": "m1",
        "org_id": "org",
        "created_at": NOW,
        "kind": ConversationKind.MEETING,
        "turns": tuple(Turn(person_id=person, text=text) for person, text in turns),
        "roster": {person: f"[P{number}]" for number, person in enumerate(people, 1)},
        "summary": summary,
    }
    return Conversation(**{**values, **fields})  # type: ignore[arg-type]


def thread(*turns: Turn) -> Conversation:
    people = dict.fromkeys(turn.person_id for turn in turns)
    return meeting(
        kind=ConversationKind.THREAD,
        conversation_id="t1",
        summary=None,
        turns=turns,
        roster={person: f"[P{number}]" for number, person in enumerate(people, 1)},
    )


def chat(person: str, text: str, **fields: object) -> Turn:
    return Turn(person_id=person, text=text, kind=ContentKind.CHAT, **fields)  # type: ignore[arg-type]


def example(target: str, prompt: str = "", number: int = 0) -> Example:
    return Example(example_id=f"e{number}", prompt=prompt, target=target, owners=frozenset({"p"}))


ANNOUNCED = [example(text, f"{number}", number) for number, text in enumerate(TEXTS[:4])]
