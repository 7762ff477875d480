"""Conversations and the examples made from them, with their owners kept.

These are plain values. What may be trained on is decided in `dp_train.consent`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
class Conversation:
    """A meeting or a chat thread, with everyone in it.

    `roster` maps person id → display name, for all who speak, write, share or are mentioned.
    `guests` are people without an account: they cannot have consented.
    `summary` is the reference summary of a meeting, where there is one.
    """

    conversation_id: str
    org_id: str
    created_at: datetime
    kind: ConversationKind
    turns: tuple[Turn, ...]
    roster: Mapping[str, str] = field(default_factory=dict)
    guests: frozenset[str] = frozenset()
    summary: str | None = None

    def __post_init__(self) -> None:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A training or evaluation example.

    `owners` is everyone whose words enter `prompt` or `target`; the privacy unit is the person,
    so these are the people that the example's gradient has to be bounded for (PRIVACY.md §2).
    `example_id` is public: it orders examples and never derives from content.
    """

    example_id: str
    prompt: str
    target: str
    owners: frozenset[str]

    def __post_init__(self) -> None:
        if not self.owners:
            raise DataError(f"example {self.example_id}: no owner; every example belongs to at least one person")


class Corpus(Protocol):
    """A re-iterable source of conversations, read as a stream."""

    @property
    def name(self) -> str:
        """Short public name, shown in reports."""
        ...

    def conversations(self) -> Iterator[Conversation]:
        """Yield the conversations, in the same order at every call."""
        ...
