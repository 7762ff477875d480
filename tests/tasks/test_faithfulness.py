"""What is copied is not novel; whoever does not speak and whatever was not counted lowers a precision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.errors import DataError
from dp_train.tasks.faithfulness import faithfulness, novel_ngrams

MEETING = "\n".join(
    (
        "[P1]: I will send the budget of 1,200 euros by Friday, in three days.",
        "[P2]: The server moves at 10:30, room 7.",
        "[P1]: Good.",
    )
)
texts = st.lists(st.sampled_from(["budget", "server", "friday", "moves", "room", "7"]), min_size=4, max_size=12).map(
    " ".join
)


@given(texts, texts)
def test_a_copy_has_no_novel_ngram_and_a_longer_ngram_is_never_less_novel(source: str, output: str) -> None:
    assert set(novel_ngrams([source], [source]).values()) == {0.0}
    shares = list(novel_ngrams([output], [source]).values())
    assert shares == sorted(shares)


def test_novel_ngrams_by_hand() -> None:
    found = novel_ngrams(["The budget moves."], [MEETING])
    assert found == {"novel_unigrams": 0.0, "novel_bigrams": 0.5, "novel_trigrams": 1.0}


@pytest.mark.parametrize(
    ("number", "right"),
    [
        ("1200", True),
        ("1,200", True),
        ("3", True),  # spelled out in the meeting
        ("10:30", True),
        ("7", True),
        ("2", False),  # that of a surrogate
        ("120", False),
        ("10:45", False),
    ],
)
def test_a_number_that_is_not_in_the_source_lowers_precision(number: str, right: bool) -> None:
    found = faithfulness([f"They meet in room 7 about {number}."], [MEETING])
    assert found["number_precision"] == (1.0 if right else 0.5)


def test_somebody_who_does_not_speak_lowers_precision() -> None:
    assert faithfulness(["[P1] and [P2] agree."], [MEETING])["speaker_precision"] == 1.0
    assert faithfulness(["[P1] and [P3] agree."], [MEETING])["speaker_precision"] == 0.5
    # A speaker of another meeting is known for a name, and is none of this one.
    named = ["Ada Lovelace: I agree", "Ada: we talked"]
    assert faithfulness(["Ada Lovelace agrees.", "Ada Lovelace talked."], named)["speaker_precision"] == 0.5


def test_swapped_names_are_attributed_wrongly() -> None:
    right, swapped = (
        f"{a} sends the budget. {b} moves the server. Good." for a, b in (("[P1]", "[P2]"), ("[P2]", "[P1]"))
    )
    assert faithfulness([right], [MEETING])["attribution_precision"] == 1.0
    assert faithfulness([swapped], [MEETING])["attribution_precision"] == 0.0


def test_what_cannot_be_decided_is_not_counted() -> None:
    # No speaker said more of it, two are named, or nobody is.
    found = faithfulness(["[P1] left early. [P1] asks [P2] about the budget. The budget is sent."], [MEETING])
    assert "attribution_precision" not in found
    assert found["speaker_precision"] == 1.0
    assert "number_precision" not in found


def test_one_source_an_output() -> None:
    with pytest.raises(DataError, match="expected one each"):
        faithfulness(["a", "b"], ["a"])


def test_recall_is_of_the_people_and_numbers_of_the_reference() -> None:
    reference = "[P1] sends 1,200 euros in three days, [P2] moves one server at 10:30."
    whole = faithfulness([reference], [MEETING], [reference])
    assert (whole["speaker_recall"], whole["number_recall"]) == (1.0, 1.0)
    half = faithfulness(["[P1] sends 1200 euros in 3 days."], [MEETING], [reference])
    assert half["speaker_recall"] == 0.5
    assert half["number_recall"] == pytest.approx(2 / 3)  # "one" is no number here
    silent = faithfulness(["They talked."], [MEETING], [reference])
    assert (silent["speaker_recall"], silent["number_recall"]) == (0.0, 0.0)
    assert "number_recall" not in faithfulness(["They talked."], [MEETING], ["They met."])
    assert "speaker_recall" not in faithfulness([reference], [MEETING])
