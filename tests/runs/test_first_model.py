"""Weights that are loaded are of unknown origin, unless it is said, or known, where they came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dp_train.cli.load_config import compose
from dp_train.errors import ConfigError
from dp_train.models import weights
from dp_train.models.build import Architecture, ModelSpec, build_model
from dp_train.models.tokenizer import train_tokenizer
from dp_train.models.weights import has_known_origin, mark_tensors
from dp_train.runs.starting import first_model
from dp_train.training.phases import write_phases

TOKENIZER = train_tokenizer(["we ship the report on friday"] * 4, vocab_size=320)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that another process left."""
    model = build_model(
        ModelSpec(architecture=Architecture.DECODER, layers=1, width=16, heads=2, positions=320), TOKENIZER, seed=0
    )
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    monkeypatch.setattr(weights, "_KNOWN", set())
    return tmp_path


def known(*words: str) -> bool:
    model = first_model(compose(words)[0], TOKENIZER)
    return has_known_origin(mark_tensors(model))


def test_loaded_weights_are_known_where_they_are_said_to_be_published(folder: Path) -> None:
    loaded = ("model=pretrained", f"model.path={folder}")
    assert not known(*loaded)
    assert known(*loaded, "model.published=true")


def test_fresh_weights_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_KNOWN", set())
    assert known("model.layers=1", "model.width=16", "model.heads=2")


def test_a_folder_without_what_it_spent_is_not_known_again(folder: Path) -> None:
    model = first_model(compose(["model=pretrained", f"model.path={folder}"])[0], TOKENIZER)
    write_phases(model, folder)
    assert not known("model=pretrained", f"model.path={folder}")


def test_nothing_is_published_where_nothing_is_loaded() -> None:
    with pytest.raises(ConfigError, match=r"model\.published=true; expected false"):
        compose(["model=tiny", "model.published=true"])
