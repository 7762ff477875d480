"""What cannot be trained is refused for the true reason, in one line, before any conversation is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from huggingface_hub import constants
from test_pretrained import byte_level, gpt2

from dp_train.cli.load_config import compose
from dp_train.errors import ModelError
from dp_train.runs import prepare as preparing
from dp_train.runs.prepare import prepare

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


def classifier(folder: Path) -> None:
    config = transformers.BertConfig(vocab_size=300, **SMALL)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    byte_level().save_pretrained(folder)


def encoder(folder: Path) -> None:
    transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=300, **SMALL)).save_pretrained(folder)
    byte_level().save_pretrained(folder)


def headless(folder: Path) -> None:
    gpt2(300).transformer.save_pretrained(folder)
    byte_level().save_pretrained(folder)


def pictures(folder: Path) -> None:
    transformers.ViTForImageClassification(transformers.ViTConfig(image_size=8, patch_size=4, **SMALL)).save_pretrained(
        folder
    )


def no_tokenizer(folder: Path) -> None:
    gpt2(300).save_pretrained(folder)


def no_weights(folder: Path) -> None:
    gpt2(300).config.save_pretrained(folder)
    byte_level().save_pretrained(folder)


def empty(folder: Path) -> None:
    folder.mkdir()


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(*arguments: object) -> None:
        raise AssertionError("conversations were read")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preparing, "populations", read)


def refusal(source: object) -> str:
    small = ("task=chat_compose", "privacy.epsilon=null", "privacy.noise_multiplier=1", "tracking=off")
    with pytest.raises(ModelError) as error:
        prepare(compose([*small, "model=pretrained", f"model.path={source}"])[0])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (classifier, "holds a BertForSequenceClassification, which gives classes or places and writes no text"),
        (encoder, "holds a BertForMaskedLM, which reads text and writes none"),
        (headless, "holds a GPT2Model, which has no output layer for words"),
        (pictures, "holds a ViTForImageClassification, which reads no text"),
        (no_tokenizer, "the folder holds no tokenizer; expected tokenizer.json beside config.json"),
        (no_weights, "the folder holds no weights; expected model.safetensors beside config.json"),
        (empty, r"the folder holds no config.json"),
    ],
)
def test_a_folder_that_cannot_be_trained_is_refused_for_what_it_is(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / "model")
    assert reason in refusal(tmp_path / "model")


def test_an_id_of_a_hub_that_is_not_asked_says_which_switch_keeps_it_from_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **named: object) -> None:
        raise OSError("no route\nto the hub")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "say HF_HUB_OFFLINE=0 to fetch it" in refusal("someone/some-model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert "no hub gave it (OSError)" in refusal("someone/some-model")
    assert "HF_HUB_OFFLINE" not in refusal("someone/some-model")


def test_an_id_of_a_hub_is_asked_for_where_there_is_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def fetch(source: str, **named: object) -> object:
        asked.append((source, named.get("local_files_only")))
        return gpt2(300).config

    def absent(source: str, **named: object) -> None:
        asked.append((source, named.get("local_files_only")))
        raise OSError("no tokenizer there")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", fetch)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", absent)
    assert "model someone/some-model" in refusal("someone/some-model")
    assert set(asked) == {("someone/some-model", False)}
    assert len(asked) > 1
