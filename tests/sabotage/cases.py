"""Small private runs in which bugs are planted: every engine on letters, both tasks packed and unpacked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from dp_train.audit.letters import PLAN, WORDS, LetterModel, LetterTask
from dp_train.audit.letters import units_of as units_of
from dp_train.engines.base import EngineName
from dp_train.models.build import Architecture, ModelSpec, build_model
from dp_train.models.tokenizer import train_tokenizer
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.meeting_summary import MeetingSummary
from dp_train.training.batches import Packing


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
        Case(engine.value, engine, lambda: (LetterModel(), LetterTask()))
        for engine in EngineName
        if engine is not EngineName.NON_PRIVATE
    ),
    *(
        Case(f"{task} {packing.value}", EngineName.BOOKKEEPING, make, packing)
        for task, make in _TASKS.items()
        for packing in (Packing.NONE, Packing.WITHIN_UNITS)
    ),
]
