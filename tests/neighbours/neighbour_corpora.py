"""Random raw conversations with everything that could tie people together.

Seven people, of whom some say no and one is in the directory alone: mentions by name, nickname, id and "@", strangers,
quotations with and without links, replies, questions and bare answers, secrets, heavy writers, empty turns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from hypothesis import strategies as st

from dp_train.anonymize import Anonymizer
from dp_train.consent.events import AgeBand, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.gate import ConsentedExamples, ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Example, Turn
from dp_train.tasks.examples import meeting_examples, messages_of_author, messages_of_thread

NOW = datetime(2025, 6, 1, tzinfo=UTC)
KEY = PrincipalKey(b"k" * 32)
NAMES = {
    "u-anna": "Anna Berg",
    "u-bob": "Bob Brix",
    "u-carla": "Carla Ruiz Soto",
    "u-dev": "देव शर्मा",
    "u-eve": "Eve O'Brien",
    "u-finn": "Finn Ødegård",
    "u-gus": "Gus Hill",
}
ABROAD = "u-hana"
DIRECTORY = {**NAMES, ABROAD: "Hana Kovářová"}
WRITERS = tuple(NAMES)

_REMARKS = [
    "we ship the report on friday", "can you look at the budget?", "yes, she did", "no", "he will", "thanks all",
    "ask {name}", "{name}: see above", "did {name} get the job?", "@{first} please", "@zorro99 and @kit-x know",
    "ask @kit-x", "Hana Kovářová left", "mail anna.berg@example.com", "pwd: hunter22", "call +44 7700 900123",
    "{echo}", "> {echo}", "as was said, {echo}", "P7 and [P3] it is", "{id} has it, @{id}", "", " ",
]  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """Conversations, and who says no."""

    conversations_: tuple[Conversation, ...]
    refusing: frozenset[str]
    name: str = "random"

    def conversations(self) -> Iterator[Conversation]:
        return iter(self.conversations_)

    def of(self, change: Callable[[Conversation], Conversation]) -> Corpus:
        return dataclasses.replace(self, conversations_=tuple(map(change, self.conversations_)))


@st.composite
def corpora(draw: st.DrawFn, *, kind: ConversationKind, refusing: bool = True, rosters: bool = True) -> Corpus:
    """A few conversations; without rosters nobody but who speaks is known to be there."""
    most = 5 if kind is ConversationKind.THREAD else 9  # so many that a bound has to choose
    talks = [draw(_conversation(number, kind, rosters)) for number in range(draw(st.integers(1, most)))]
    no = draw(st.frozensets(st.sampled_from(WRITERS), max_size=2)) if refusing else frozenset()
    return Corpus(tuple(talks), no | {ABROAD})


@st.composite
def _conversation(draw: st.DrawFn, number: int, kind: ConversationKind, rosters: bool) -> Conversation:
    people = draw(st.lists(st.sampled_from(WRITERS), min_size=1, max_size=5, unique=True))
    roster = dict.fromkeys(draw(st.permutations([*people, *draw(st.lists(st.sampled_from(WRITERS), max_size=2))])))
    heavy = draw(st.sampled_from(people))
    turns: list[Turn] = []
    for index in range(draw(st.integers(1, 10 if kind is ConversationKind.THREAD else 5))):
        named = draw(st.sampled_from(WRITERS))
        name = NAMES[named]
        echo = draw(st.sampled_from(turns)).text if turns else "we go"
        remark = draw(st.sampled_from(_REMARKS))
        earlier = st.none() | st.integers(0, index - 1) if index else st.none()
        turns.append(
            Turn(
                person_id=draw(st.sampled_from([*people, heavy, heavy])),
                text=remark.format(
                    name=draw(st.sampled_from([name, name.split()[0]])), first=name.split()[0], echo=echo, id=named
                ),
                kind=ContentKind.CHAT if kind is ConversationKind.THREAD else ContentKind.TRANSCRIPT,
                mentions=tuple(draw(st.lists(st.sampled_from([*WRITERS, "u-stranger"]), max_size=1))),
                reply_to=draw(earlier),
                quotes=draw(st.none() | earlier),
            )
        )
    return Conversation(
        conversation_id=f"c{number}",
        org_id="org",
        created_at=NOW - timedelta(days=7),
        kind=kind,
        turns=tuple(turns),
        roster={person: NAMES[person] for person in roster} if rosters else {},
        summary=draw(st.sampled_from(["They shipped it.", f"Hana Kovářová met {NAMES['u-bob']}."]))
        if kind is ConversationKind.MEETING
        else None,
    )


def emptied(person: str) -> Callable[[Conversation], Conversation]:
    """The same conversation, in which nothing that the person wrote says anything."""

    def change(conversation: Conversation) -> Conversation:
        turns = (
            dataclasses.replace(turn, text="", mentions=()) if turn.person_id == person else turn
            for turn in conversation.turns
        )
        return dataclasses.replace(conversation, turns=tuple(turns))

    return change


def without(person: str) -> Callable[[Conversation], Conversation]:
    """The conversation as it would have come without the person's turns; the roster, who was invited, stays."""

    def change(conversation: Conversation) -> Conversation:
        places = {index: index for index, turn in enumerate(conversation.turns) if turn.person_id != person}
        places = {old: new for new, old in enumerate(places)}
        turns = (
            dataclasses.replace(
                conversation.turns[old],
                reply_to=places.get(conversation.turns[old].reply_to),  # type: ignore[arg-type]
                quotes=places.get(conversation.turns[old].quotes),  # type: ignore[arg-type]
            )
            for old in places
        )
        return dataclasses.replace(conversation, turns=tuple(turns))

    return change


def without_links_to(person: str) -> Callable[[Conversation], Conversation]:
    """The conversation in which nobody replies to, or quotes, the person by a link."""

    def change(conversation: Conversation) -> Conversation:
        def link(index: int | None) -> int | None:
            return None if index is not None and conversation.turns[index].person_id == person else index

        turns = (
            dataclasses.replace(turn, reply_to=link(turn.reply_to), quotes=link(turn.quotes))
            for turn in conversation.turns
        )
        return dataclasses.replace(conversation, turns=tuple(turns))

    return change


def passed(corpus: Corpus, of: Callable[[Conversation], Iterable[Example]], share: float) -> ConsentedExamples:
    """Examples of the corpus, past the real gate with the organisation's directory, and anonymised."""
    meeting = of is meeting_examples
    purpose = Purpose.TRAIN_MEETING_SUMMARY if meeting else Purpose.TRAIN_CHAT_COMPOSE
    policy = ConsentPolicy(purpose=purpose, max_removed_share=share)
    gated = gate(corpus, snapshot(corpus), policy, directory=DIRECTORY)
    return gated.redact(Anonymizer()).examples(of)


def snapshot(corpus: Corpus) -> ConsentSnapshot:
    """Everybody agreed but who says no."""
    return ConsentRegistry(events_of(corpus), key=KEY).snapshot(as_of=NOW)


def events_of(corpus: Corpus, *, also: Iterable[str] = ()) -> list[ConsentEvent]:
    """What the organisation, everybody who is in the corpus or in the directory, and some more people said."""
    people = dict.fromkeys(
        [*DIRECTORY, *also, *(one for talk in corpus.conversations_ for one in (*talk.roster, *talk.people))]
    )
    events = [_event(0, None, EventState.GIVEN)]
    for number, person in enumerate(people, start=1):
        events.append(_event(number, person, EventState.REFUSED if person in corpus.refusing else EventState.GIVEN))
    return events


def _event(number: int, person: str | None, state: EventState) -> ConsentEvent:
    return ConsentEvent(
        record_id=f"r{number}",
        seq=number,
        pii_principal_id=None if person is None else KEY.pseudonym(person),
        org_id="org",
        entity_role=EntityRole.ORG_ADMIN if person is None else EntityRole.SELF,
        purpose=frozenset(Purpose),
        content_kind=frozenset(ContentKind),
        event_state=state,
        event_time=NOW - timedelta(days=30),
        recorded_time=NOW - timedelta(days=30),
        notice_id="notice",
        notice_version=1,
        age_band=AgeBand.ADULT,
    )


TASKS: dict[str, Callable[[Conversation], Iterable[Example]]] = {
    "own": partial(messages_of_author, context_turns=2),
    "thread": partial(messages_of_thread, context_turns=2),
    "meeting": meeting_examples,
}


def kind_of(task: str) -> ConversationKind:
    return ConversationKind.MEETING if task == "meeting" else ConversationKind.THREAD
