"""The vocabulary: nothing unknown, nothing private, control tokens out of reach."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from dp_train.anonymize import SURROGATES
from dp_train.consent.events import Purpose
from dp_train.errors import ConfigError, ConsentError, ModelError
from dp_train.models.tokenizer import (
    BOS,
    EOS,
    MARKERS,
    MIN_VOCAB,
    PAD,
    SEP,
    load_tokenizer,
    public_texts,
    tokenizer_digest,
    train_tokenizer,
)

TEXTS = ["we agreed to ship the report on friday", "[P1] will send the budget to [P2]"] * 4
TOKENIZER = train_tokenizer(TEXTS, vocab_size=330)


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


@given(st.text(max_size=60))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert TOKENIZER.decode(ids(text)) == text


@given(st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8), min_size=1, max_size=6))
def test_tokens_of_a_message_are_those_of_its_words(words: list[str]) -> None:
    spelled = [ids(words[0]), *(ids(f" {word}") for word in words[1:])]
    assert ids(" ".join(words)) == [token for word in spelled for token in word]


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_surrogate_is_one_token_and_survives_decoding(surrogate: str) -> None:
    assert len(ids(surrogate)) == 1
    assert TOKENIZER.decode(ids(f"ask {surrogate}, please"), skip_special_tokens=True) == f"ask {surrogate}, please"


@pytest.mark.parametrize("control", [PAD, BOS, EOS, SEP, *MARKERS])
def test_control_token_cannot_be_typed(control: str) -> None:
    token = TOKENIZER.convert_tokens_to_ids(control)
    assert TOKENIZER.convert_ids_to_tokens(token) == control
    assert token not in ids(f"before {control} after")
    assert TOKENIZER.decode([token, *ids("kept")], skip_special_tokens=True) == "kept"


def test_equal_texts_give_equal_vocabularies() -> None:
    again = train_tokenizer(iter(TEXTS), vocab_size=330)
    assert again.get_vocab() == TOKENIZER.get_vocab()
    assert tokenizer_digest(again) == tokenizer_digest(TOKENIZER)
    assert tokenizer_digest(train_tokenizer(TEXTS[:1], vocab_size=330)) != tokenizer_digest(TOKENIZER)


def test_no_merge_is_spent_on_surrogates() -> None:
    vocabulary = train_tokenizer(["[P1] [P1] [P2] [EMAIL]"] * 50, vocab_size=400).get_vocab()
    assert not [token for token in vocabulary if "P" in token and len(token) > 1 and token not in SURROGATES]


def test_vocabulary_is_no_larger_than_asked() -> None:
    assert len(TOKENIZER) <= 330


def test_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"vocab_size={MIN_VOCAB - 1}; expected at least {MIN_VOCAB}"):
        train_tokenizer(TEXTS, vocab_size=MIN_VOCAB - 1)


def test_saved_tokenizer_is_the_same_when_loaded(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    text = "[P1] wrote </s> and <summary>"
    assert loaded.encode(text, add_special_tokens=False) == ids(text)
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id, loaded.sep_token_id) == (0, 1, 2, 3)
    assert tokenizer_digest(loaded) == tokenizer_digest(TOKENIZER)


def test_missing_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_text_without_consent_to_publication_gives_no_vocabulary() -> None:
    corpus = SimpleNamespace(purpose=Purpose.TRAIN_CHAT_COMPOSE)
    with pytest.raises(ConsentError, match="expected publish"):
        next(public_texts(corpus))  # type: ignore[arg-type]
