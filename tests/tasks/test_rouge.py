"""ROUGE with values by hand, in every script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from dp_train.errors import DataError
from dp_train.tasks.rouge import NAMES, rouge, words

ALL_RIGHT = dict.fromkeys(NAMES, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "[P1] will send the budget to [P2]. They agreed on Friday; nothing else.",
        "Die Änderung wird am Freitag geprüft.",
        "会议决定周五发布报告。",
        "Встреча перенесена на понедельник.",
        "รายงานจะส่งวันศุกร์",
        "बैठक सोमवार को होगी।",
    ],
)
def test_rouge_of_the_reference_is_one(text: str) -> None:
    assert rouge([text], [text]) == ALL_RIGHT


def test_two_texts_of_one_language_are_not_the_same_text() -> None:
    assert rouge(["Öl für Äpfel"], ["Über Nähe"])["rouge1"] == 0.0
    assert rouge(["周五发布"], ["周一发布"])["rouge1"] == 0.75


def test_rouge_of_nothing_is_zero() -> None:
    assert rouge([""], ["they met"]) == dict.fromkeys(NAMES, 0.0)


def test_rouge_by_hand() -> None:
    # 3 of 4 words of the output are among the 3 of the reference; no pair of neighbours is; LCS is "a c".
    scores = rouge(["b a x c"], ["a b c"])
    assert scores == pytest.approx({"rouge1": 6 / 7, "rouge2": 0.0, "rougeL": 4 / 7, "rougeLsum": 4 / 7})


def test_rouge_lsum_takes_sentences_in_any_order() -> None:
    scores = rouge(["They shipped it. The plan stands."], ["The plan stands. They shipped it."])
    assert scores["rougeLsum"] == 1.0
    assert scores["rougeL"] == 0.5


def test_rouge_stems_words() -> None:
    assert rouge(["meetings ended"], ["meeting ends"])["rouge1"] == 1.0


def test_rouge_is_a_mean_over_pairs_and_over_references() -> None:
    assert rouge(["they met", ""], ["they met", "they met"])["rougeL"] == 0.5
    assert rouge(["they met"], [("they met", "nothing else")])["rougeL"] == 0.5


@pytest.mark.parametrize(("outputs", "references"), [([], []), (["a"], ["a", "b"]), (["a"], [()])])
def test_rouge_needs_one_output_a_reference(outputs: list[str], references: list[str]) -> None:
    with pytest.raises(DataError, match="expected one each"):
        rouge(outputs, references)


@given(st.text(st.characters(codec="ascii"), max_size=60), st.text(st.characters(codec="ascii"), max_size=60))
def test_figures_of_ascii_text_are_the_packages_own(output: str, reference: str) -> None:
    scores = RougeScorer(NAMES[:3], use_stemmer=True).score(reference, output)
    found = rouge([output], [reference])
    assert [found[name] for name in NAMES[:3]] == pytest.approx([scores[name].fmeasure for name in NAMES[:3]])


@given(st.text(max_size=40))
def test_words_hold_every_letter(text: str) -> None:
    kept = "".join(words(text))
    assert all(letter in kept for letter in text.lower() if letter.isalnum() and letter.isascii())
