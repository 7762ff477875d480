"""Scores of summaries and of suggestions; the same functions score models and baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from dp_train.errors import DataError

MAX_CONTINUATION = 5
TRAILING_PUNCTUATION = ".,;:!?…"


class Scores(Enum):
    """How much a task's `evaluate` computes: all scores, or the primary one."""

    ALL = "all"
    PRIMARY = "primary"


def check_pairs(outputs: Sequence[object], references: Sequence[object]) -> None:
    """Raise unless there are outputs and one text to compare each with.

    Raises:
      DataError: there are not.
    """
    if not references or len(outputs) != len(references):
        raise DataError(f"scores: {len(outputs)} outputs for {len(references)} references; expected one each")


def degenerate_shares(outputs: Sequence[str]) -> dict[str, float]:
    """Shares of outputs that are no text: `empty`, of `one_word`, or `repeating` (a phrase three times in a row).

    They stand beside every score of generated text, since a score alone does not show them.
    """
    written = [output.split() for output in outputs]
    return {
        "empty": _share([not found for found in written]),
        "one_word": _share([len(found) == 1 for found in written]),
        "repeating": _share([_repeats(found) for found in written]),
    }


def _repeats(found: Sequence[str]) -> bool:
    """Whether some phrase of up to eight words stands three times in a row."""
    return any(
        found[start : start + size]
        == found[start + size : start + 2 * size]
        == found[start + 2 * size : start + 3 * size]
        for size in range(1, 9)
        for start in range(len(found) - 3 * size + 1)
    )


def word_perplexity(negative_log_likelihood: float, *, words: int, messages: int) -> float:
    """exp(nats ÷ (words + messages)): the end of each message counts as one word.

    Words are what white space separates, so the value does not depend on how a model spells them:
    models with other vocabularies, and word models, can be compared.
    """
    if words + messages < 1:
        raise DataError("perplexity: no words; expected at least one message")
    # A model that is sure of the wrong thing passes float range; its rank stays last.
    return math.exp(min(negative_log_likelihood / (words + messages), 700.0))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was suggested at one place of a message, before its next word was typed.

    Attributes:
      expected: the words that did follow, to the end of the message; at least one.
      suggestions: next words, the best first.
      confidence: probability of the first suggestion.
      continuation: the words that the best suggestion begins.
    """

    expected: tuple[str, ...]
    suggestions: tuple[str, ...]
    confidence: float
    continuation: tuple[str, ...]


def suggestion_scores(predictions: Sequence[Prediction], *, trigger_rate: float) -> dict[str, float]:
    """What suggestions are worth to someone who types.

    A word is right when it equals the one that followed, case included, up to punctuation at its end.

    - `top1`, `top3`: share of places whose next word is the first, or among the first three, suggestions.
    - `exact_match_1` … `exact_match_5`: share of the places with n words left at which the first n words
      of the continuation are right.
    - `keystroke_savings`: one word is suggested at the `trigger_rate` share of places where confidence
      is highest (ties: the earlier place), all places of all messages taken together. Taking a right
      suggestion costs one key and saves its letters; a wrong one costs nothing. The value is the letters
      saved, less those keys, over all letters of the words and one space each; it is in [0, 1).
    """
    if not predictions:
        raise DataError("suggestions: no place to score; expected at least one word")
    scores = {
        "top1": _share([_hit(p, 1) for p in predictions]),
        "top3": _share([_hit(p, 3) for p in predictions]),
    }
    for length in range(1, MAX_CONTINUATION + 1):
        long_enough = [p for p in predictions if len(p.expected) >= length]
        scores[f"exact_match_{length}"] = _share([_continues(p, length) for p in long_enough])
    scores["keystroke_savings"] = _keystroke_savings(predictions, trigger_rate)
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceCount:
    """What one place adds to `suggestion_scores`: whether its first suggestion is right, letters saved, and letters."""

    right: bool
    saved: int
    letters: int


def place_counts(predictions: Sequence[Prediction], *, trigger_rate: float) -> list[PlaceCount]:
    """What each place adds, so that `top1` is the mean of `right`, and `keystroke_savings` Σ saved ÷ Σ letters."""
    shown = set(_surest_first(predictions)[: round(trigger_rate * len(predictions))])
    return [
        PlaceCount(
            right=_hit(one, 1),
            saved=max(0, len(bare(one.expected[0])) - 1) if index in shown and _hit(one, 1) else 0,
            letters=len(one.expected[0]) + 1,
        )
        for index, one in enumerate(predictions)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerPoint:
    """What comes of showing a suggestion wherever its confidence is at least `threshold`; shares of all places.

    Attributes:
      threshold: of the confidence.
      shown: places at which one is shown.
      accepted: places at which the one that is shown is right, and would be taken.
      saved: letters saved, less a key for each that is taken, over all letters: `keystroke_savings` at `shown`.
    """

    threshold: float
    shown: float
    accepted: float
    saved: float


def trigger_curve(predictions: Sequence[Prediction], *, steps: int = 20) -> tuple[TriggerPoint, ...]:
    """What is taken and saved as more is shown: at 1 ÷ steps of the places, the surest first, 2 ÷ steps, … all.

    Guarantee: `threshold` falls, and `accepted` and `saved` never fall, as `shown` rises; `accepted` ≤ `shown`.
    The cost of reading a wrong suggestion is not in it: that is what the ratio of accepted to shown is for.
    """
    if not predictions:
        raise DataError("suggestions: no place to score; expected at least one word")
    order = _surest_first(predictions)
    found = []
    for step in range(1, steps + 1):
        shown = order[: math.ceil(step * len(order) / steps)]
        found.append(
            TriggerPoint(
                threshold=predictions[shown[-1]].confidence,
                shown=len(shown) / len(order),
                accepted=sum(_hit(predictions[index], 1) for index in shown) / len(order),
                saved=_saved(predictions, shown),
            )
        )
    return tuple(found)


def same_word(suggested: str, expected: str) -> bool:
    """Equal up to punctuation at the end."""
    return bare(suggested) == bare(expected)


def bare(word: str) -> str:
    """The word without punctuation at its end, unless that is all it is."""
    return word.rstrip(TRAILING_PUNCTUATION) or word


def _hit(prediction: Prediction, k: int) -> bool:
    return any(same_word(word, prediction.expected[0]) for word in prediction.suggestions[:k])


def _continues(prediction: Prediction, length: int) -> bool:
    suggested, expected = prediction.continuation[:length], prediction.expected[:length]
    return len(suggested) == length and all(map(same_word, suggested, expected))


def _keystroke_savings(predictions: Sequence[Prediction], trigger_rate: float) -> float:
    return _saved(predictions, _surest_first(predictions)[: round(trigger_rate * len(predictions))])


def _surest_first(predictions: Sequence[Prediction]) -> list[int]:
    return sorted(range(len(predictions)), key=lambda index: (-predictions[index].confidence, index))


def _saved(predictions: Sequence[Prediction], shown: Sequence[int]) -> float:
    letters = (len(bare(predictions[index].expected[0])) for index in shown if _hit(predictions[index], 1))
    return sum(max(0, count - 1) for count in letters) / sum(len(one.expected[0]) + 1 for one in predictions)


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else 0.0
