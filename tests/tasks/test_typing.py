"""Suggestions letter by letter: those of a model that reads everything anew, and never a word that was not typed."""

from __future__ import annotations

import pytest
from talks import TEXTS
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dp_train.anonymize import SURROGATES
from dp_train.models.build import Architecture
from dp_train.tasks.chat_compose import ChatCompose

DRAFT = TEXTS[0]
EARLIER = TEXTS[1]


@pytest.fixture(scope="module")
def task(tokenizer: PreTrainedTokenizerFast, architecture: Architecture) -> ChatCompose:
    return ChatCompose(tokenizer, architecture, max_length=96)


def typed(text: str) -> list[str]:
    return [text[:length] for length in range(len(text) + 1)]


def test_a_letter_more_gives_what_reading_everything_anew_gives(task: ChatCompose, model: PreTrainedModel) -> None:
    kept = task.typing(model)
    # Typed, a word taken back, another message begun, and the first again.
    drafts = [*typed(DRAFT), *typed(DRAFT)[-8::-1], *typed(EARLIER)[:9], DRAFT]
    assert [kept.suggest(draft, EARLIER) for draft in drafts] == [
        task.typing(model).suggest(draft, EARLIER) for draft in drafts
    ]


def test_after_a_space_it_is_how_the_model_goes_on(
    tokenizer: PreTrainedTokenizerFast, architecture: Architecture, memory: nn.Module
) -> None:
    task = ChatCompose(tokenizer, architecture, max_length=48)
    for words in range(1, 5):
        draft, left = " ".join(DRAFT.split()[:words]), DRAFT.split()[words:]
        whole = task.generate(memory, [draft], earlier=["0"])[0]
        assert whole.startswith(" ".join(left[:5]))
        assert task.typing(memory).suggest(f"{draft} ", "0") == " ".join(left[:3])


def test_at_most_three_finished_words_and_no_surrogate(task: ChatCompose, model: PreTrainedModel) -> None:
    typing = task.typing(model)
    for draft in typed(DRAFT):
        words = f"{draft}{typing.suggest(draft)}".split()[len(draft.split()) :]
        assert len(words) <= 3
        assert not any(surrogate in word for surrogate in SURROGATES for word in words)


@pytest.mark.parametrize("draft", ["", "   ", "smile ☃"])
def test_nothing_is_suggested_for_nothing_or_for_half_a_character(
    draft: str, task: ChatCompose, model: PreTrainedModel
) -> None:
    assert task.typing(model).suggest(draft) == ""


def test_a_draft_that_is_longer_than_the_model_is_cut_and_not_refused(
    task: ChatCompose, model: PreTrainedModel
) -> None:
    assert isinstance(task.typing(model).suggest(" ".join([DRAFT] * 30), EARLIER), str)
