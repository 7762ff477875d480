"""A span of the training text is found wherever it stands, whole, and only there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from talks import TEXTS, chat, consented, thread
from transformers import PreTrainedTokenizerFast

from dp_train.models.build import Architecture
from dp_train.privacy.plan import Unit
from dp_train.privacy.units import build_units
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.verbatim import longest_common_spans, verbatim_overlap

tokens = st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=5)


def by_hand(output: list[int], texts: list[list[int]]) -> int:
    spans = {tuple(text[a:b]) for text in texts for a in range(len(text)) for b in range(a, len(text) + 1)}
    return max(
        (b - a for a in range(len(output)) for b in range(a + 1, len(output) + 1) if tuple(output[a:b]) in spans),
        default=0,
    )


@given(tokens, tokens)
def test_it_is_the_longest_of_all_spans(outputs: list[list[int]], texts: list[list[int]]) -> None:
    assert longest_common_spans(outputs, texts) == [by_hand(output, texts) for output in outputs]


@given(tokens.filter(len), st.data())
def test_a_planted_span_is_found(texts: list[list[int]], data: st.DataObject) -> None:
    planted = data.draw(st.sampled_from(texts))
    (found,) = longest_common_spans([[9, *planted, 9]], texts)
    assert found == len(planted)


def test_no_span_reaches_over_an_output_or_a_text() -> None:
    assert longest_common_spans([[1, 2], [3, 4]], [[1, 2, 3, 4]]) == [2, 2]
    assert longest_common_spans([[1, 2, 3, 4]], [[1, 2], [3, 4]]) == [2]


def test_what_people_wrote_is_found_in_what_a_model_writes(tokenizer: PreTrainedTokenizerFast) -> None:
    task = ChatCompose(tokenizer, Architecture.DECODER)
    corpus = consented(thread(chat("a", TEXTS[0]), chat("a", TEXTS[1])), purpose=task.purpose)
    units = build_units(task.examples(corpus), unit=Unit.USER, rows_per_unit=4)
    length = len(tokenizer.encode(TEXTS[0], add_special_tokens=False))
    copied = verbatim_overlap([TEXTS[0], ""], units, tokenizer, task.encode)
    assert (copied.longest, copied.mean) == (length, length / 2)
    assert verbatim_overlap(["qqq zzz"], units, tokenizer, task.encode).longest < length / 2
