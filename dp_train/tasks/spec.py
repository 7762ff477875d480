"""The words of a task in a configuration, and which tasks there are. No torch: a configuration is checked without it.

A task that `task=NAME` can choose is a *spec*: a frozen dataclass of public numbers that says what becomes an example
and for which purpose people were asked, and builds the `Task` itself when a tokenizer is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dp_train.consent.events import Purpose
from dp_train.conversations import Conversation, ConversationKind, Example
from dp_train.errors import ConfigError
from dp_train.expect import expect
from dp_train.register import Register, canonical, fill
from dp_train.settled import settled
from dp_train.tasks.examples import meeting_examples, messages_of_author, messages_of_thread
from dp_train.words import Word

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from dp_train.models.spec import Architecture
    from dp_train.tasks.base import Task

TRAINING = (Purpose.TRAIN_MEETING_SUMMARY, Purpose.TRAIN_CHAT_COMPOSE)
"""The purposes that a task may train for: those for which people are asked."""


class ContextKind(Word):
    """What a message is continued from: its author's own earlier messages, or the thread's."""

    OWN = "own"
    THREAD = "thread"


class TaskSpec(Protocol):
    """What `task=NAME` leads to, with its numbers filled in."""

    purpose: ClassVar[Purpose]
    """What people must have agreed to for their words to be trained on; one of `TRAINING`."""
    metric: ClassVar[str]
    """Name of the primary score."""
    kinds: ClassVar[Sequence[ConversationKind]]
    """The conversations that it learns from; a corpus may leave out all others."""

    # A task may also say `use`, in one sentence: what a model of it is for, in an entry for a registry of deployments.

    def examples(self, conversation: Conversation) -> Iterable[Example]:
        """The examples of one conversation, each with everyone whose words are in it as its owner."""
        ...

    def build(self, tokenizer: PreTrainedTokenizerFast, architecture: Architecture) -> Task:
        """The task itself."""
        ...


TASKS: Register[type[TaskSpec]] = Register(
    "task",
    "dp_train.tasks",
    {
        "meeting_summary": "dp_train.tasks.spec:MeetingSummarySpec",
        "chat_compose": "dp_train.tasks.spec:ChatComposeSpec",
        "meeting_headline": "dp_train.tasks.meeting_headline:MeetingHeadlineSpec",
    },
    needs=("purpose", "metric", "kinds", "examples", "build"),
)


@settled
@dataclass(kw_only=True)
class TaskConfig:
    """What is learnt."""

    name: str
    """Which task: a built-in one, an entry point of an installed package, or module:Name (docs/extending.md)."""
    max_length: int = 256
    """Most tokens of prompt and target together; of each, for an encoder–decoder."""
    max_new_tokens: int = 48
    """Of a meeting summary: how many tokens it may become."""
    context: ContextKind = ContextKind.OWN
    """Of chat compose: whose earlier messages stand before a message. With `thread` all of them own the example."""
    context_turns: int = 1
    """Of chat compose: how many earlier messages stand before a message."""
    trigger_rate: float = 0.25
    """Of chat compose: share of places at which a suggestion is shown."""
    suggestion_places: int = 400
    """Of chat compose: most places at which suggestions are scored, at three short generations each."""
    options: dict[str, Any] = field(default_factory=dict)
    """Numbers of a task from outside, by the names that its class gives them."""

    def __post_init__(self) -> None:
        expect(self, "task.max_length", self.max_length >= 16, "at least 16 tokens")
        expect(self, "task.context_turns", self.context_turns >= 0, "at least 0")
        expect(self, "task.suggestion_places", self.suggestion_places >= 1, "at least 1")
        expect(self, "task.trigger_rate", 0 < self.trigger_rate <= 1, "a share in (0, 1]")
        expect(self, "task.max_new_tokens", self.max_new_tokens >= 1, "at least 1 token")
        room = f"fewer than task.max_length={self.max_length}, so that the prompt has room"
        expect(self, "task.max_new_tokens", self.max_new_tokens < self.max_length, room)
        self.name = canonical(self.name)
        purpose = self.spec().purpose
        if purpose not in TRAINING:
            wanted = ", ".join(known.name for known in TRAINING)
            raise ConfigError(f"config: task={self.name}: purpose={purpose}; expected one of {wanted}")

    @property
    def own_words(self) -> bool:
        """Whether a row holds its author's words alone; a task from outside says so by an attribute of that name."""
        return bool(getattr(self.spec(), "own_words", False))

    def spec(self) -> TaskSpec:
        """The chosen task with its numbers.

        Raises:
          ConfigError: there is no such task, or it does not take an option.
        """
        return fill(TASKS.find(self.name), self, "task")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeetingSummarySpec:
    """Summaries of meetings; see `meeting_summary.MeetingSummary`."""

    purpose: ClassVar[Purpose] = Purpose.TRAIN_MEETING_SUMMARY
    metric: ClassVar[str] = "rougeL"
    use: ClassVar[str] = "To write summaries of meetings."
    kinds: ClassVar[Sequence[ConversationKind]] = (ConversationKind.MEETING,)

    max_length: int
    max_new_tokens: int

    def examples(self, conversation: Conversation) -> Iterable[Example]:
        return meeting_examples(conversation)

    def build(self, tokenizer: PreTrainedTokenizerFast, architecture: Architecture) -> Task:
        from dp_train.tasks.meeting_summary import MeetingSummary

        return MeetingSummary(tokenizer, architecture, max_length=self.max_length, max_new_tokens=self.max_new_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatComposeSpec:
    """Continuation of a person's own message; see `chat_compose.ChatCompose`."""

    purpose: ClassVar[Purpose] = Purpose.TRAIN_CHAT_COMPOSE
    metric: ClassVar[str] = "perplexity"
    use: ClassVar[str] = "To suggest the next words while a message is written."
    kinds: ClassVar[Sequence[ConversationKind]] = (ConversationKind.THREAD,)

    max_length: int
    context: ContextKind
    context_turns: int
    trigger_rate: float
    suggestion_places: int

    @property
    def own_words(self) -> bool:
        return self.context is ContextKind.OWN

    def examples(self, conversation: Conversation) -> Iterable[Example]:
        of = messages_of_author if self.context is ContextKind.OWN else messages_of_thread
        return partial(of, context_turns=self.context_turns)(conversation)

    def build(self, tokenizer: PreTrainedTokenizerFast, architecture: Architecture) -> Task:
        from dp_train.tasks.chat_compose import ChatCompose

        return ChatCompose(
            tokenizer,
            architecture,
            max_length=self.max_length,
            context=self.context,
            context_turns=self.context_turns,
            trigger_rate=self.trigger_rate,
            max_places=self.suggestion_places,
        )
