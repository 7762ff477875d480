"""Scores with known values and bounds."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.errors import DataError
from dp_train.tasks.metrics import (
    Prediction,
    degenerate_shares,
    same_word,
    suggestion_scores,
    trigger_curve,
    word_perplexity,
)


def prediction(expected: str, suggestions: str = "", confidence: float = 0.5, continuation: str = "") -> Prediction:
    return Prediction(
        expected=tuple(expected.split()),
        suggestions=tuple(suggestions.split()),
        confidence=confidence,
        continuation=tuple((continuation or suggestions[:0]).split()),
    )


predictions = st.lists(
    st.builds(
        prediction,
        st.lists(st.sampled_from(["ok", "report,", "friday", "a"]), min_size=1, max_size=6).map(" ".join),
        st.lists(st.sampled_from(["ok", "report", "friday", "a"]), max_size=3).map(" ".join),
        st.floats(0, 1),
        st.lists(st.sampled_from(["ok", "report", "friday", "a"]), max_size=5).map(" ".join),
    ),
    min_size=1,
    max_size=20,
)


def test_perplexity_of_a_uniform_choice_is_its_size() -> None:
    # 12 words and 3 message ends, each drawn from 500.
    assert word_perplexity(15 * math.log(500), words=12, messages=3) == pytest.approx(500)


def test_perplexity_never_overflows() -> None:
    assert math.isfinite(word_perplexity(1e9, words=1, messages=0))


def test_perplexity_of_no_words_is_refused() -> None:
    with pytest.raises(DataError, match="no words"):
        word_perplexity(0.0, words=0, messages=0)


@pytest.mark.parametrize(
    ("suggested", "expected", "same"),
    [("report", "report,", True), ("report!", "report", True), ("Report", "report", False), ("!", "?", False)],
)
def test_punctuation_at_the_end_does_not_count(suggested: str, expected: str, same: bool) -> None:
    assert same_word(suggested, expected) is same


def test_top_one_is_among_the_top_three() -> None:
    scores = suggestion_scores(
        [prediction("the report", "a the to"), prediction("report", "report is it")], trigger_rate=1.0
    )
    assert scores["top1"] == 0.5
    assert scores["top3"] == 1.0


def test_exact_match_counts_only_places_with_enough_words() -> None:
    scores = suggestion_scores(
        [prediction("see you soon", continuation="see you there"), prediction("see", continuation="see")],
        trigger_rate=1.0,
    )
    assert [scores[f"exact_match_{n}"] for n in range(1, 6)] == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_keystroke_savings_by_hand() -> None:
    places = [
        prediction("report, please", "report", 0.9),  # right and shown: 6 letters for one key
        prediction("please", "now", 0.8),  # wrong and shown: costs nothing
        prediction("friday", "friday", 0.1),  # right, not shown
        prediction("a", "b", 0.05),
    ]
    letters = len("report, ") + len("please ") + len("friday ") + len("a ")
    assert suggestion_scores(places, trigger_rate=0.5)["keystroke_savings"] == pytest.approx(5 / letters)
    assert suggestion_scores(places, trigger_rate=1.0)["keystroke_savings"] == pytest.approx(10 / letters)


@given(predictions, st.floats(0.01, 1))
def test_scores_are_shares_and_savings_stay_below_one(places: list[Prediction], rate: float) -> None:
    scores = suggestion_scores(places, trigger_rate=rate)
    assert all(0 <= value <= 1 for value in scores.values())
    assert scores["top1"] <= scores["top3"]
    assert scores["keystroke_savings"] < 1


@given(predictions, st.floats(0.01, 0.99))
def test_showing_more_never_saves_less(places: list[Prediction], rate: float) -> None:
    some, everything = (suggestion_scores(places, trigger_rate=r)["keystroke_savings"] for r in (rate, 1.0))
    assert some <= everything


def test_no_place_is_refused() -> None:
    with pytest.raises(DataError, match="no place"):
        suggestion_scores([], trigger_rate=0.5)


@given(predictions, st.integers(1, 30))
def test_more_shown_is_surer_never_and_taken_never_less(places: list[Prediction], steps: int) -> None:
    curve = trigger_curve(places, steps=steps)
    assert curve[-1].shown == 1.0
    assert curve[-1].saved == pytest.approx(suggestion_scores(places, trigger_rate=1.0)["keystroke_savings"])
    assert curve[-1].accepted == pytest.approx(suggestion_scores(places, trigger_rate=1.0)["top1"])
    for one, more in pairwise(curve):
        assert one.shown <= more.shown
        assert one.accepted <= more.accepted
        assert one.saved <= more.saved
        assert one.threshold >= more.threshold
    assert all(point.accepted <= point.shown for point in curve)


def test_outputs_that_are_no_text_are_counted() -> None:
    outputs = ["", "ok", "the board on the board on the board on it", "a short summary", "no no no"]
    assert degenerate_shares(outputs) == {"empty": 0.2, "one_word": 0.2, "repeating": 0.4}
