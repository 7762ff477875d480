"""Conversations and the examples made from them, with their owners kept.

These are plain values. What may be trained on is decided in `dp_train.consent`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from dp_train.errors import DataError
from dp_train.words import Word


class ContentKind(Word):
    """What a piece of content is; consent is given per kind."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is slow, and the gate asks millions of times

    AUDIO = "audio"
    VIDEO = "video"
    CHAT = "chat"
    SCREEN_SHARE = "screen_share"
    ATTACHMENT = "attachment"
    TRANSCRIPT = "transcript"
    WHITEBOARD = "whiteboard"
    POLL = "poll"
    REACTION = "reaction"


class ConversationKind(Enum):
    """A meeting has a transcript (and perhaps a summary); a thread is written chat."""

    MEETING = "meeting"
    THREAD = "thread"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One contribution of one person.

    `mentions` are the ids of people named in the text; `quotes` and `reply_to` are indices of
    earlier turns of the same conversation.
    """

    person_id: str
    text: str
    kind: ContentKind = ContentKind.TRANSCRIPT
    mentions: tuple[str, ...] = ()
    reply_to: int | None = None
    quotes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicOrder:
    """Who sat where in a conversation as it came, before the gate. Ids and surrogates are counted by it.

    Guarantee: a function of the roster's order and of who wrote when; no word and no answer to consent changes it, so
    what one person says, or their no, renumbers no one else. `ordinals` and the seats of the roster stay also where a
    person's turns are not there at all; the seats of those who speak and are not on the roster do not.

    Attributes:
      seats: person id → number from 1: the roster in its order, then those who speak and are not on it. Of who left
        the seat stays empty, and is not listed.
      places: of each turn that is left, its index in the conversation as it came.
      ordinals: of each turn that is left, how many turns of the same person came before it, as it came.
      size: how many seats there were. invited: how many of them were the roster's.
    """

    seats: Mapping[str, int]
    places: tuple[int, ...]
    ordinals: tuple[int, ...]
    size: int
    invited: int

    @classmethod
    def of(cls, turns: Sequence[Turn], roster: Mapping[str, str]) -> PublicOrder:
        """The order of a conversation that comes with these turns and this roster."""
        people = dict.fromkeys((*roster, *(turn.person_id for turn in turns)))
        spoken: Counter[str] = Counter()
        ordinals = []
        for turn in turns:
            ordinals.append(spoken[turn.person_id])
            spoken[turn.person_id] += 1
        return cls(
            seats={person: number for number, person in enumerate(people, start=1)},
            places=tuple(range(len(turns))),
            ordinals=tuple(ordinals),
            size=len(people),
            invited=len(roster),
        )

    def only(self, indices: Sequence[int], people: Container[str]) -> PublicOrder:
        """The same order, for those of its turns and people that are left."""
        return PublicOrder(
            seats={person: seat for person, seat in self.seats.items() if person in people},
            places=tuple(self.places[index] for index in indices),
            ordinals=tuple(self.ordinals[index] for index in indices),
            size=self.size,
            invited=self.invited,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A meeting or a chat thread, with everyone in it.

    `roster` maps person id → display name, for all who speak, write, share or are mentioned. Its order is public.
    `guests` are people without an account: they cannot have consented.
    `summary` is the reference summary of a meeting, where there is one.
    `as_came` is the order of the conversation that this one is a part of; None if it is whole. See `public_order`.
    """

    conversation_id: str
    org_id: str
    created_at: datetime
    kind: ConversationKind
    turns: tuple[Turn, ...]
    roster: Mapping[str, str] = field(default_factory=dict)
    guests: frozenset[str] = frozenset()
    summary: str | None = None
    as_came: PublicOrder | None = None

    def __post_init__(self) -> None:
        if self.as_came is not None and len(self.as_came.places) != len(self.turns):
            raise DataError(
                f"conversation: as_came has {len(self.as_came.places)} places for {len(self.turns)} turns; "
                "expected one a turn"
            )
        if self.created_at.tzinfo is None:
            raise DataError("conversation: created_at has no time zone; write it as ISO 8601 with an offset")
        for index, turn in enumerate(self.turns):
            if not turn.person_id:
                raise DataError(f"conversation: turn {index} has no speaker; every turn needs a person_id")
            for link in (turn.reply_to, turn.quotes):
                if link is not None and not 0 <= link < index:
                    raise DataError(f"conversation: turn {index} refers to turn {link}; expected an earlier turn")

    @property
    def people(self) -> frozenset[str]:
        """Everyone whose words or screen are in the conversation."""
        return frozenset(turn.person_id for turn in self.turns)

    @property
    def public_order(self) -> PublicOrder:
        """Seats and places as the conversation came, whatever was left out since."""
        return self.as_came or PublicOrder.of(self.turns, self.roster)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A training or evaluation example.

    `owners` is everyone whose words enter `prompt` or `target`; the privacy unit is the person,
    so these are the people that the example's gradient has to be bounded for (docs/privacy.md, One plan).
    `example_id` orders examples and never derives from content: from the conversation's id, and from who wrote when.

    An example without a target is a *place*: it stands where an example would be if all its owners had said something,
    so that which examples there are, and whose, does not depend on content. It takes part in the selection, and is no
    row.
    """

    example_id: str
    prompt: str
    target: str
    owners: frozenset[str]

    def __post_init__(self) -> None:
        if not self.owners:
            raise DataError(f"example {self.example_id}: no owner; every example belongs to at least one person")

    @property
    def empty(self) -> bool:
        """Whether it is a place without content."""
        return not self.target


class Corpus(Protocol):
    """A re-iterable source of conversations, read as a stream."""

    @property
    def name(self) -> str:
        """Short public name, shown in reports."""
        ...

    def conversations(self) -> Iterator[Conversation]:
        """Yield the conversations, in the same order at every call."""
        ...
