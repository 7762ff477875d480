"""A task of one's own: what is answered to a chat message. As a file of the working folder or as a package:

dp-train train task=own_task:Reply task.options.min_words=2

[project.entry-points."dp_train.tasks"]
reply = "own_task:Reply"            # pip install, then: dp-train train task=reply
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from dp_train.consent.events import Purpose
from dp_train.conversations import Conversation, ConversationKind, Example
from dp_train.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A message in, its answer by another person out. Both own the example, for both wrote it."""

    purpose = Purpose.TRAIN_CHAT_COMPOSE  # what people must have agreed to
    metric = "loss"
    kinds = (ConversationKind.THREAD,)

    max_length: int = 64  # the configuration's task.max_length
    min_words: int = 1  # of our own: task.options.min_words

    def __post_init__(self) -> None:
        if self.min_words < 1:
            raise ConfigError(f"config: task.options.min_words={self.min_words}; expected at least 1")

    def examples(self, conversation: Conversation) -> Iterator[Example]:
        """One example for each message that follows another person's."""
        turns = conversation.turns
        for index, (said, answer) in enumerate(pairwise(turns)):
            # A turn that quotes holds a third person's words, who would own the example, too.
            quotes = said.quotes is not None or answer.quotes is not None
            if said.person_id != answer.person_id and not quotes and len(answer.text.split()) >= self.min_words:
                yield Example(
                    example_id=f"{conversation.conversation_id}/{index}",
                    prompt=said.text,
                    target=answer.text,
                    owners=frozenset({said.person_id, answer.person_id}),
                )

    def build(self, tokenizer, architecture):  # called when a tokenizer is there; only here torch is loaded
        from dp_train.tasks.prompted import PromptedTask

        return PromptedTask(
            tokenizer,
            architecture,
            name="reply",
            purpose=self.purpose,
            examples=self.examples,
            max_length=self.max_length,
        )
