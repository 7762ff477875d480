"""Units of consented people, made through the real gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
import torch
from letters import NOW, LetterTask

from dp_train.consent.events import AgeBand, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.tables import UnitTables
from dp_train.privacy.units import Units, build_units
from dp_train.training.identity import Identity

KEY = PrincipalKey(b"k" * 32)
WORDS = ["plan", "ship", "review", "budget", "release", "agenda", "ticket", "deploy", "invoice", "roadmap"]


@dataclass(frozen=True)
class ChatOf:
    """Two messages each of `people` people, all different."""

    people: int
    name: str = "chat"

    def conversations(self) -> Iterator[Conversation]:
        for person in range(self.people):
            texts = [f"{WORDS[person % 10]} {WORDS[(person // 10 + turn) % 10]} {person}" for turn in range(2)]
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


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def one_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give all runs of a test the same coins and noise under one seed, to compare what they do with them."""
    monkeypatch.setattr(Identity, "digest", property(lambda self: "the same"))


@pytest.fixture
def units_of() -> Callable[..., Units]:
    def make(people: int, purpose: Purpose = Purpose.TRAIN_CHAT_COMPOSE, tables: UnitTables | None = None) -> Units:
        registry = ConsentRegistry(consent_events(people, purpose), key=KEY)
        corpus = gate(ChatOf(people), registry.snapshot(as_of=NOW), ConsentPolicy(purpose=purpose))
        return build_units(LetterTask().examples(corpus), unit=Unit.USER, rows_per_unit=2, tables=tables)

    return make


@pytest.fixture
def plan() -> PrivacyPlan:
    return PrivacyPlan(
        sample_rate=0.25, expected_units=10, steps=12, delta=1e-5, clip_norm=0.5, noise_multiplier=1.0, rows_per_unit=2
    )
