"""A published starting point is what its facts say, and is taken for its own task and model alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dp_train.cli.load_config import compose
from dp_train.errors import CheckpointError, ModelError
from dp_train.models import weights
from dp_train.models.build import Architecture, ModelSpec, build_model
from dp_train.models.published import Published, find_published, publish, round_weights
from dp_train.models.spec import ModelConfig
from dp_train.models.tokenizer import tokenizer_digest, train_tokenizer
from dp_train.models.weights import has_known_origin, mark_tensors
from dp_train.tasks.spec import TaskConfig

TOKENIZER = train_tokenizer(["we ship the report on friday"] * 4, vocab_size=320)
SPEC = ModelSpec(architecture=Architecture.DECODER, layers=1, width=16, heads=2, positions=64)
NUMBERS: dict[str, Any] = {**SPEC.describe(), "vocab_size": 320}
TASK = TaskConfig(name="chat_compose", max_length=64)
CONFIG = ModelConfig(layers=1, width=16, heads=2, vocab_size=320)


def model(seed: int = 0, **changes: Any) -> Any:
    return build_model(SPEC.replace(**changes), TOKENIZER, seed=seed)


@pytest.fixture
def made(tmp_path: Path) -> Published:
    one = model(seed=1)
    round_weights(one)
    return publish(tmp_path / "start", one, TOKENIZER, {"task": "chat_compose", "model": NUMBERS})


def test_what_is_loaded_is_what_was_rounded_and_its_origin_is_known(
    made: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_KNOWN", set())
    found = find_published(str(made.path))
    loaded, rounded = model(), model(seed=1)
    found.load_into(loaded)
    round_weights(rounded)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), rounded.parameters(), strict=True))
    assert has_known_origin(mark_tensors(loaded))
    assert tokenizer_digest(found.tokenizer()) == tokenizer_digest(TOKENIZER)


@pytest.mark.parametrize("change", [{"layers": 2}, {"width": 32}, {"heads": 1}, {"tied": False}, {"vocab_size": 400}])
def test_another_model_is_refused_by_the_number_that_differs(made: Published, change: dict[str, Any]) -> None:
    made.check(TASK, CONFIG)
    made.check(replace(TASK, max_length=500), replace(CONFIG, dropout=0.1))  # which no weight depends on
    with pytest.raises(ModelError, match=f"has {next(iter(change))}=.*set model.{next(iter(change))}="):
        made.check(TASK, replace(CONFIG, **change))


def test_another_task_or_architecture_is_refused(made: Published) -> None:
    with pytest.raises(ModelError, match="is for chat_compose; expected one for task meeting_summary"):
        made.check(replace(TASK, name="meeting_summary"), CONFIG)
    with pytest.raises(ModelError, match="is of architecture decoder"):
        made.check(TASK, replace(CONFIG, architecture=Architecture.ENCODER_DECODER))


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        (("model=small",), "published"),
        (("model=tiny",), "public"),
        (("model=small", "model.layers=2"), "public"),
        (("model=small", "start=none"), "none"),
        (("model=pretrained", "model.path=somewhere"), "none"),
    ],
)
def test_auto_takes_what_the_package_carries_for_this_task_and_model(words: tuple[str, ...], mode: str) -> None:
    for task in ("chat_compose", "meeting_summary"):
        assert compose([f"task={task}", *words])[0].start.mode.value == mode


def test_weights_that_the_facts_do_not_name_are_refused(made: Published, tmp_path: Path) -> None:
    other = model(seed=2)
    round_weights(other)
    publish(tmp_path / "other", other, TOKENIZER, {"task": "chat_compose", "model": NUMBERS})
    shutil.copy(tmp_path / "other" / "model.safetensors", made.path)
    with pytest.raises(ModelError, match=r"not those that its facts\.json names"):
        find_published(str(made.path)).load_into(model())
    (made.path / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(ModelError, match="cannot be read"):
        find_published(str(made.path)).load_into(model())


def test_what_is_none_is_refused_in_one_line_that_names_those_there_are(made: Published, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"start\.name=nowhere: no such starting point; expected chat_compose or"):
        find_published("nowhere")
    facts = json.loads((made.path / "facts.json").read_text())
    (made.path / "facts.json").write_text(json.dumps({name: facts[name] for name in facts if name != "weights"}))
    with pytest.raises(ModelError, match="lacks weights"):
        find_published(str(made.path))
    with pytest.raises(CheckpointError, match="exists already"):
        publish(made.path, model(), TOKENIZER, {})


@pytest.mark.parametrize("task", ["chat_compose", "meeting_summary"])
def test_those_that_the_package_carries_are_what_their_facts_say(task: str) -> None:
    found = find_published(task)
    assert found.facts["task"] == task
    numbers = found.facts["model"]
    spec = ModelSpec(**{**{name: numbers[name] for name in SPEC.describe()}, "architecture": Architecture.DECODER})
    loaded = build_model(spec, found.tokenizer(), seed=0)
    found.load_into(loaded)
    assert sum(parameter.numel() for parameter in loaded.parameters()) == found.facts["parameters"]
    assert tokenizer_digest(found.tokenizer()) == found.facts["tokenizer"]
