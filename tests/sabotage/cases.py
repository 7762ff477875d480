"""Small private runs in which bugs are planted: every engine on letters, both tasks packed and unpacked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from letters import KEY, NOW, WORDS, ChatOf, LetterModel, LetterTask, consent_events, own_words
from torch import nn

from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.registry import ConsentRegistry
from dp_train.engines.base import EngineName
from dp_train.models.build import Architecture, ModelSpec, build_model
from dp_train.models.tokenizer import train_tokenizer
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.units import Units, build_units
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.meeting_summary import MeetingSummary
from dp_train.training.batches import Packing

PEOPLE = 40
PLAN = PrivacyPlan(
    sample_rate=0.25, expected_units=10, steps=8, delta=1e-5, clip_norm=0.5, noise_multiplier=1.0, rows_per_unit=2
)


class WideLetters(LetterModel):
    """An embedding of more elements than are looked at, one linear layer, and what a forward pass could teach."""

    def __init__(self) -> None:
        super().__init__(width=48)
        self.register_buffer("memory", torch.zeros(3))
        self.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)


@dataclass(frozen=True)
class Case:
    """How a run is made up."""

    name: str
    engine: EngineName
    make: Callable[[], tuple[nn.Module, Any]]
    packing: Packing = Packing.NONE

    @property
    def plan(self) -> PrivacyPlan:
        return PLAN.replace(rows_per_unit=1) if self.engine is EngineName.GHOST else PLAN


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    return train_tokenizer([" ".join(WORDS)] * 20, vocab_size=300)


def _decoder(task: type[ChatCompose] | type[MeetingSummary], **lengths: int) -> tuple[nn.Module, Any]:
    spec = ModelSpec(architecture=Architecture.DECODER, layers=1, width=16, heads=2, positions=64)
    model = build_model(spec, _tokenizer(), seed=3)
    model.register_buffer("memory", torch.zeros(3))
    model.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)  # type: ignore[assignment]
    return model, task(_tokenizer(), Architecture.DECODER, max_length=64, **lengths)


_TASKS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "chat": lambda: _decoder(ChatCompose),
    "meetings": lambda: _decoder(MeetingSummary, max_new_tokens=16),
}
CASES = [
    *(
        Case(engine.value, engine, lambda: (WideLetters(), LetterTask()))
        for engine in EngineName
        if engine is not EngineName.NON_PRIVATE
    ),
    *(
        Case(f"{task} {packing.value}", EngineName.BOOKKEEPING, make, packing)
        for task, make in _TASKS.items()
        for packing in (Packing.NONE, Packing.WITHIN_UNITS)
    ),
]


@lru_cache(maxsize=8)
def units_of(purpose: Purpose, unit: Unit, rows: int) -> Units:
    """Two short messages each of some people, through the real gate."""
    registry = ConsentRegistry(consent_events(PEOPLE, purpose), key=KEY)
    corpus = gate(ChatOf(PEOPLE, text=_text), registry.snapshot(as_of=NOW), ConsentPolicy(purpose=purpose))
    return build_units(corpus.examples(partial(own_words, prompt="agenda")), unit=unit, rows_per_unit=rows)


def _text(person: int, turn: int) -> str:
    """No two people's words are the same, and lengths differ."""
    return " ".join(WORDS[(person // 10**turn + word * (1 + person % 7)) % 10] for word in range(2 + turn))
