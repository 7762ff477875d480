"""A tokenizer and the smallest models of each architecture."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from dp_train.models.build import Architecture, ModelSpec
from dp_train.models.tokenizer import train_tokenizer

torch.set_num_threads(1)

TEXTS = [
    "we agreed to ship the report on friday",
    "[P1] will send the budget to [P2] before noon",
    "can you look at the report, please?",
    "the meeting is moved to monday; bring the numbers",
] * 4


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, vocab_size=340)


@pytest.fixture(params=list(Architecture), ids=lambda architecture: architecture.value)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return ModelSpec(architecture=request.param, layers=2, width=16, heads=2, positions=64)
