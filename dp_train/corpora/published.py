"""Text that is public anyway, with no ceremony: for a vocabulary, a starting point, or to score on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentedCorpus, ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.corpora.adapters.benchmark import RULES, BenchmarkCorpus
from dp_train.corpora.synthetic import Population
from dp_train.errors import DataError

_KEY = PrincipalKey(b"published: there is nobody to hide")
"""Pseudonyms of people whose words are public need no secret; one key lets a run resume in another process."""

_WHEN = datetime(2020, 1, 1, tzinfo=UTC)


def public(texts: Iterable[str | Conversation], *, name: str = "published") -> ConsentedCorpus:
    """Return texts that you declare to be published, as a corpus for PUBLISH.

        published = public(["the first message", "and another"])
        units = build_units(task.examples(published), unit=Unit.EXAMPLE)

    Guarantee: it is of the purpose PUBLISH and of no other, its records say that nobody was asked, and equal texts give
    an equal corpus. What is published belongs to no budget and no ε covers it: nothing private belongs here.

    Args:
      texts: each a message of a person of its own, or a whole `Conversation`, such as those of `read_jsonl`. Read once,
        and held in memory.
      name: of the corpus; conversations of texts carry it as `org_id`.

    Raises:
      DataError: something else is among them.
    """
    if isinstance(texts, str):
        raise DataError("public: texts is one str; expected a list of texts, such as [text]")
    corpus = _Published(name, tuple(_conversation(text, name, row) for row, text in enumerate(texts, 1)))
    records = BenchmarkCorpus(name, Population.PUBLIC, corpus.conversations)
    snapshot = ConsentRegistry(records.consent_events(_KEY), key=_KEY, rules=RULES).snapshot(as_of=datetime.now(UTC))
    return gate(corpus, snapshot, ConsentPolicy(purpose=Purpose.PUBLISH))


@dataclass(frozen=True, slots=True)
class _Published:
    name: str
    held: tuple[Conversation, ...]

    def conversations(self) -> Iterator[Conversation]:
        yield from self.held


def _conversation(text: str | Conversation, name: str, row: int) -> Conversation:
    if isinstance(text, Conversation):
        return text
    if not isinstance(text, str) or not text.strip():
        kind = "an empty text" if isinstance(text, str) else f"a {type(text).__name__}"
        raise DataError(f"public: text {row} is {kind}; expected words, or a Conversation")
    author = f"{name}-{row}"
    return Conversation(
        conversation_id=f"{name}/{row}",
        org_id=name,
        created_at=_WHEN,
        kind=ConversationKind.THREAD,
        turns=(Turn(person_id=author, text=text, kind=ContentKind.CHAT),),
        roster={author: author},
    )
