"""A task small enough to train in milliseconds: predict the next letter; and people who write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import torch
from torch import Tensor, nn

from dp_train.consent.events import AgeBand, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.gate import ConsentedCorpus, ConsentedExamples
from dp_train.consent.principals import PrincipalKey
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Example, Turn
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tasks.base import Row, Sample, Task
from dp_train.training.method import Execution, Method
from dp_train.training.optimizers import OptimizerFactory
from dp_train.training.trainer import Trainer

LETTERS = 29


class LetterModel(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.embedding = nn.Embedding(LETTERS, width)
            self.output = nn.Linear(width, LETTERS)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.output(self.embedding(ids))  # (rows, time, letters)
        return logits


class LetterTask:
    name = "letters"
    purpose = Purpose.TRAIN_CHAT_COMPOSE
    metric = "loss"
    higher_is_better = False

    def examples(self, corpus: ConsentedCorpus) -> ConsentedExamples:
        return corpus.examples(own_words)

    def encode(self, example: Example) -> Row:
        ids = tuple(ord(letter) % LETTERS for letter in example.target[:12])
        return Row(input_ids=ids, labels=ids)

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        longest = max(len(row.input_ids) for row in rows)
        ids = torch.tensor([row.input_ids + (0,) * (longest - len(row.input_ids)) for row in rows])
        labels = torch.tensor([row.labels + (-100,) * (longest - len(row.labels)) for row in rows])
        return {"ids": ids, "labels": labels}

    def row_losses(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        logits, labels = model(inputs["ids"])[:, :-1], inputs["labels"][:, 1:]
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)
        return losses.sum(1) / (labels != -100).sum(1).clamp(min=1)

    def evaluate(self, model: nn.Module, examples: Sequence[Example]) -> dict[str, float]:
        with torch.no_grad():
            losses = self.row_losses(model, self.collate([self.encode(example) for example in examples]))
        return {"loss": float(losses.mean())}

    def samples(self, model: nn.Module, examples: Sequence[Example], count: int) -> list[Sample]:
        return []


def own_words(conversation: Conversation, *, prompt: str = "") -> Iterable[Example]:
    for index, turn in enumerate(conversation.turns):
        if len(turn.text) > 3:
            yield Example(
                example_id=f"{conversation.conversation_id}/{index}",
                prompt=prompt,
                target=turn.text,
                owners=frozenset({turn.person_id}),
            )


NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = PrincipalKey(b"k" * 32)
WORDS = ["plan", "ship", "review", "budget", "release", "agenda", "ticket", "deploy", "invoice", "roadmap"]


def _few_words(person: int, turn: int) -> str:
    return f"{WORDS[person % 10]} {WORDS[(person // 10 + turn) % 10]} {person}"


@dataclasses.dataclass(frozen=True)
class ChatOf:
    """Two messages each of `people` people, all different; `text` gives what a person says in a turn."""

    people: int
    name: str = "chat"
    text: Callable[[int, int], str] = _few_words

    def conversations(self) -> Iterator[Conversation]:
        for person in range(self.people):
            texts = [self.text(person, turn) for turn in range(2)]
            yield Conversation(
                conversation_id=f"c{person:04d}",
                org_id="org",
                created_at=NOW,
                kind=ConversationKind.THREAD,
                turns=tuple(Turn(person_id=f"u{person:04d}", text=text, kind=ContentKind.CHAT) for text in texts),
                roster={f"u{person:04d}": f"Xu{person}"},
            )


def consent_events(people: int, purpose: Purpose) -> Iterator[ConsentEvent]:
    for number in range(-1, people):
        yield ConsentEvent(
            record_id=f"r{number}",
            seq=number + 1,
            pii_principal_id=None if number < 0 else KEY.pseudonym(f"u{number:04d}"),
            org_id="org",
            entity_role=EntityRole.ORG_ADMIN if number < 0 else EntityRole.SELF,
            purpose=frozenset({purpose}),
            content_kind=frozenset({ContentKind.CHAT}),
            event_state=EventState.GIVEN,
            event_time=NOW - timedelta(days=30),
            recorded_time=NOW - timedelta(days=30),
            notice_id="notice",
            notice_version=1,
            age_band=AgeBand.ADULT,
        )


def trainer_of(
    model: nn.Module, task: Task, plan: PrivacyPlan, *, optimizer: OptimizerFactory, **settings: Any
) -> Trainer:
    """A trainer from the fields of `Method` and `Execution`, given flat."""
    names = {field.name for field in dataclasses.fields(Method)}
    method = Method(**{name: value for name, value in settings.items() if name in names})
    execution = Execution(**{name: value for name, value in settings.items() if name not in names})
    return Trainer(model, task, plan, optimizer=optimizer, method=method, execution=execution)
