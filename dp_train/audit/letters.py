"""A trainer on letters that is small enough to be broken many times: people who wrote two messages each, past the gate.

The self-test of the audit plants its bugs here, and so do the tests of what a run notices by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import torch
from torch import Tensor, nn

from dp_train.consent.events import AgeBand, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Example, Turn
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.units import Units, build_units
from dp_train.tasks.base import Row

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = PrincipalKey(b"k" * 32)
WORDS = ["plan", "ship", "review", "budget", "release", "agenda", "ticket", "deploy", "invoice", "roadmap"]
PEOPLE, LETTERS = 40, 29
PLAN = PrivacyPlan(
    sample_rate=0.25, expected_units=10, steps=8, delta=1e-5, clip_norm=0.5, noise_multiplier=1.0, rows_per_unit=2
)


class LetterModel(nn.Module):
    """An embedding of more elements than are looked at, one linear layer, and what a forward pass could teach."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.embedding = nn.Embedding(LETTERS, 48)
            self.output = nn.Linear(48, LETTERS)
        self.register_buffer("memory", torch.zeros(3))
        self.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.output(self.embedding(ids))  # (rows, time, letters)
        return logits


class LetterTask:
    name = "letters"
    purpose = Purpose.TRAIN_CHAT_COMPOSE

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


@lru_cache(maxsize=8)
def units_of(purpose: Purpose, unit: Unit, rows: int, silent: int | None = None) -> Units:
    """Two short messages each of some people, one of whom may say nothing, through the real gate."""
    registry = ConsentRegistry(_events(purpose), key=KEY)
    corpus = gate(_Chat(silent), registry.snapshot(as_of=NOW), ConsentPolicy(purpose=purpose))
    return build_units(corpus.examples(_own_words), unit=unit, rows_per_unit=rows)


@dataclass(frozen=True, slots=True)
class _Chat:
    silent: int | None
    name: str = "letters"

    def conversations(self) -> Iterator[Conversation]:
        for person in range(PEOPLE):
            # No two people's words are the same, and lengths differ.
            texts = [" ".join(WORDS[(person // 10**turn + word * (1 + person % 7)) % 10] for word in range(2 + turn))
                     for turn in range(2)]  # fmt: skip
            if person == self.silent:
                texts = ["", ""]
            yield Conversation(
                conversation_id=f"c{person:04d}",
                org_id="org",
                created_at=NOW,
                kind=ConversationKind.THREAD,
                turns=tuple(Turn(person_id=f"u{person:04d}", text=text, kind=ContentKind.CHAT) for text in texts),
                roster={f"u{person:04d}": f"Xu{person}"},
            )


def _own_words(conversation: Conversation) -> Iterable[Example]:
    for index, turn in enumerate(conversation.turns):
        if not turn.text:
            continue
        yield Example(
            example_id=f"{conversation.conversation_id}/{index}",
            prompt="agenda",
            target=turn.text,
            owners=frozenset({turn.person_id}),
        )


def _events(purpose: Purpose) -> Iterator[ConsentEvent]:
    for number in range(-1, PEOPLE):
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
