"""A meeting's transcript in, one line out: what a calendar or a list of meetings has room for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dp_train.consent.events import Purpose
from dp_train.conversations import Conversation, ConversationKind, Example
from dp_train.tasks.examples import meeting_examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from dp_train.models.spec import Architecture
    from dp_train.tasks.base import Task

_END = re.compile(r"[.!?…][\"'”’»)\]]*(?=\s+[^\sa-z])|[。！？]")
"""What ends a sentence: a mark, and then something else than a small letter."""
_SHORTENED = frozenset(
    ["mr", "mrs", "ms", "dr", "prof", "st", "vs", "no", "nr", "approx", "inc", "ltd", "e.g", "i.e", "cf"]
)
"""Before a full stop they end no sentence, and neither does a single letter or digit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeetingHeadlineSpec:
    """The first sentence of a meeting's summary, by `meeting_summary.MeetingSummary`, whose model writes nothing else.

    Guarantee: an example differs from that of `meeting_summary` in its target alone, which is the beginning of the
    other's; owners, places and order are the same.
    """

    purpose: ClassVar[Purpose] = Purpose.TRAIN_MEETING_SUMMARY
    metric: ClassVar[str] = "rougeL"
    use: ClassVar[str] = "To say in one line what a meeting was about."
    kinds: ClassVar[Sequence[ConversationKind]] = (ConversationKind.MEETING,)

    max_length: int
    max_new_tokens: int = 24

    def examples(self, conversation: Conversation) -> Iterable[Example]:
        return headline_examples(conversation)

    def build(self, tokenizer: PreTrainedTokenizerFast, architecture: Architecture) -> Task:
        from dp_train.tasks.meeting_summary import MeetingSummary

        return MeetingSummary(
            tokenizer,
            architecture,
            max_length=self.max_length,
            max_new_tokens=self.max_new_tokens,
            name="meeting_headline",
            examples=self.examples,
            baseline_turns=1,
        )


def headline_examples(conversation: Conversation) -> Iterator[Example]:
    """One example a meeting that has a summary, whose target is the summary's first sentence; places stay places."""
    for example in meeting_examples(conversation):
        yield dataclasses.replace(example, target=first_sentence(example.target))


def first_sentence(text: str) -> str:
    """The text up to the end of its first sentence; all of it where none ends before.

    >>> first_sentence("Dr. Rossi opened. The rota is settled.")
    'Dr. Rossi opened.'
    """
    for end in _END.finditer(text):
        *_, word = text[: end.start()].split() or [""]
        if text[end.start()] == "." and (len(word) == 1 or word.lower().lstrip("(\"'“‘[") in _SHORTENED):
            continue
        return text[: end.end()]
    return text


__all__ = ["MeetingHeadlineSpec", "first_sentence", "headline_examples"]
