"""A tokenizer, and models that are too small to learn."""

from __future__ import annotations

import pytest
import torch
from talks import ANNOUNCED, TEXTS
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dp_train.models.build import Architecture, ModelSpec, build_model
from dp_train.models.tokenizer import train_tokenizer
from dp_train.tasks.chat_compose import ChatCompose


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, vocab_size=346)


@pytest.fixture(scope="session", params=list(Architecture), ids=lambda architecture: architecture.value)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    value = request.param
    assert isinstance(value, Architecture)
    return value


@pytest.fixture(scope="session")
def model(architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Random weights ten times larger than usual: what it writes depends on what it reads."""
    spec = ModelSpec(architecture=architecture, layers=2, width=32, heads=2, positions=160)
    model = build_model(spec, tokenizer, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2 and parameter.requires_grad:
                parameter.mul_(10)
    return model


@pytest.fixture(scope="session")
def memory(tokenizer: PreTrainedTokenizerFast, architecture: Architecture) -> nn.Module:
    """A model that has learnt `ANNOUNCED` by heart."""
    task = ChatCompose(tokenizer, architecture, max_length=48)
    spec = ModelSpec(architecture=architecture, layers=1, width=32, heads=2, positions=64)
    model = build_model(spec, tokenizer, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inputs = task.collate([task.encode(message) for message in ANNOUNCED])
    for _ in range(120):
        task.row_losses(model, inputs).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model
