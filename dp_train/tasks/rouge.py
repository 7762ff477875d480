"""ROUGE for texts of any script, by the rouge-score package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import regex

from dp_train.tasks.metrics import check_pairs

NAMES = ("rouge1", "rouge2", "rougeL", "rougeLsum")

# Scripts that put no space between words: each character counts as a word there.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"(?=[{_UNSPACED}])\X|[\p{{L}}\p{{M}}\p{{N}}--[{_UNSPACED}]]+", regex.VERSION1)
_SENTENCE_END = regex.compile(r"(?<=[.!?])\s+|(?<=[。！？।॥])\s*|\n+")
_ASCII = regex.compile(r"[a-z0-9]+")


def rouge(outputs: Sequence[str], references: Sequence[str | Sequence[str]]) -> dict[str, float]:
    """Mean F1 of ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum in [0, 1].

    For text of ASCII letters the first three are the package's own figures: words are lower-cased and stemmed (Porter),
    everything but letters and digits separates them. Words of other alphabets keep their letters and are not stemmed;
    in scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character counts as a word.

    ROUGE-L is over the whole text, ROUGE-Lsum by sentence. With several references of an output, its scores are the
    means over them, which is how DialogSum reports (Chen et al. 2021, arXiv 2105.06762).

    Raises:
      DataError: outputs and references are not one each, or there are none.
    """
    each = rouge_each(outputs, references)
    return {name: sum(scores[name] for scores in each) / len(each) for name in NAMES}


def rouge_each(outputs: Sequence[str], references: Sequence[str | Sequence[str]]) -> list[dict[str, float]]:
    """The scores of each output, whose means `rouge` gives."""
    check_pairs(outputs, references)
    scorer = _scorer()
    found = []
    for output, reference in zip(outputs, references, strict=True):
        several = [reference] if isinstance(reference, str) else list(reference)
        check_pairs(several, several)
        scores = [scorer.score(_by_line(one), _by_line(output)) for one in several]
        found.append({name: sum(one[name].fmeasure for one in scores) / len(scores) for name in NAMES})
    return found


def words(text: str) -> list[str]:
    """Lower-case words of a text, as ROUGE counts them, before stemming.

    >>> words("Ärger, don't! 会议 결정")
    ['ärger', 'don', 't', '会', '议', '결정']
    """
    return [match.group() for match in _WORD.finditer(text.lower())]


def _by_line(text: str) -> str:
    """One sentence a line, as ROUGE-Lsum takes them."""
    return "\n".join(filter(None, _SENTENCE_END.split(text)))


class _Words:
    """A tokenizer as the package takes it; ASCII words are stemmed as the package's own are."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer  # comes with rouge-score

        self._stem = lru_cache(maxsize=100_000)(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        return [self._stem(word) if len(word) > 3 and _ASCII.fullmatch(word) else word for word in words(text)]


@lru_cache(maxsize=1)
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk, which only scoring needs

    return RougeScorer(NAMES, tokenizer=_Words())
