"""Simple summaries by hand, and word models that are distributions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.tasks.baselines import Counts, WordModel, lead, longest

TURNS = ["[P1]: hi", "[P2]: shall we start with the budget", "[P1]: yes", "[P3]: it is twelve", "[P2]: then we agree"]
WORDS = ["see", "you", "soon", "there", "today,"]
messages = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join), min_size=1, max_size=8)


def test_lead_three_is_the_first_three_turns() -> None:
    assert lead(TURNS) == "[P1]: hi [P2]: shall we start with the budget [P1]: yes"


def test_longest_three_keep_their_order() -> None:
    assert longest(TURNS) == "[P2]: shall we start with the budget [P3]: it is twelve [P2]: then we agree"


def test_longest_breaks_ties_by_time() -> None:
    assert longest(["a b", "c d", "e f", "g h"], 2) == "a b c d"


@pytest.mark.parametrize("summary", [lead, longest])
def test_short_meeting_is_its_own_baseline(summary: object) -> None:
    assert summary(["[P1]: hi"]) == "[P1]: hi"  # type: ignore[operator]


def test_witten_bell_by_hand() -> None:
    # Counted: see 2, you 1, end 2, so 5 of 3 kinds; after "see": you 1, end 1, so 2 of 2 kinds.
    counts = Counts([("see", "you"), ("see",)], order=2, base=lambda symbol: 0.01)
    alone = (1 + 3 * 0.01) / (5 + 3)
    assert counts.probability("you", ()) == pytest.approx(alone)
    assert counts.probability("you", ("see",)) == pytest.approx((1 + 2 * alone) / (2 + 2))
    assert counts.probability("you", ("never",)) == pytest.approx(alone)


def test_unigrams_do_not_look_back() -> None:
    model = WordModel(["see you", "see"], order=1)
    assert model.probability("see", []) == model.probability("see", ["you"]) > model.probability("you", [])


def test_unseen_words_are_spelled_like_the_seen() -> None:
    model = WordModel(["shipping the reporting", "meeting shipped"], order=3)
    assert model.probability("reported", []) > model.probability("xqzkvwpj", []) > 0


def test_trigram_prefers_what_followed() -> None:
    model = WordModel(["see you soon"] * 3 + ["call you later"] * 3, order=3)
    assert model.suggest(["see", "you"], 1)[0][0] == "soon"
    assert model.suggest(["call", "you"], 1)[0][0] == "later"
    assert model.continuation(["see"], 2) == ("you", "soon")


@given(messages, st.integers(1, 3), st.lists(st.sampled_from(["see", "you", "new"]), max_size=4))
def test_probabilities_of_different_words_sum_to_at_most_one(texts: list[str], order: int, history: list[str]) -> None:
    model = WordModel(texts, order=order)
    words = {"see", "you", "soon", "there", "today", ",", "new", "x"}
    probabilities = [model.probability(word, history) for word in words]
    assert all(0 < probability < 1 for probability in probabilities)
    assert sum(probabilities) <= 1 + 1e-9


@given(messages, st.integers(1, 3), st.lists(st.sampled_from(["see", "you", "new"]), max_size=4))
def test_suggestions_are_the_likeliest_words(texts: list[str], order: int, history: list[str]) -> None:
    model = WordModel(texts, order=order)
    ranked = sorted((-model.probability(word, history), word) for word in ["see", "you", "soon", "there", "today"])
    seen = {word for text in texts for word in text.replace(",", "").split()}
    expected = [(word, -value) for value, word in ranked if word in seen][:3]
    assert [value for _, value in model.suggest(history, 3)] == pytest.approx([value for _, value in expected])


def test_every_word_has_a_probability_even_with_no_text() -> None:
    model = WordModel([], order=3)
    assert math.isfinite(model.negative_log_likelihood(["日本", "see,"]))
    assert model.suggest(["see"], 3) == []
    assert model.continuation(["see"], 3) == ()


def test_neither_punctuation_nor_the_end_is_suggested() -> None:
    model = WordModel(["so, ! see", "so, ! see", "so"], order=3)
    assert {word for word, _ in model.suggest(["so"], 9)} == {"so", "see"}


def test_an_unfinished_message_does_not_pay_for_its_end() -> None:
    model = WordModel(["see you"], order=3)
    end = -math.log(model.probability("\x00", ["see", "you"]))
    whole, begun = (model.negative_log_likelihood(["see", "you"], ended=ended) for ended in (True, False))
    assert whole == pytest.approx(begun + end)
