"""Units of consented people, made through the real gate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from letters import KEY, NOW, ChatOf, LetterTask, consent_events

from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.registry import ConsentRegistry
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.tables import UnitTables
from dp_train.privacy.units import Units, build_units
from dp_train.training.identity import Identity


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
