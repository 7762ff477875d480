"""What a model has to beat: the simplest summaries, and counts of words.

Counts are taken from public text, as a vocabulary is: they would release what they count.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from dp_train.tasks.metrics import TRAILING_PUNCTUATION, bare

_END = "\x00"
_UNICODE = 0x110000


def lead(turns: Sequence[str], count: int = 3) -> str:
    """The first `count` turns."""
    return " ".join(turns[:count])


def longest(turns: Sequence[str], count: int = 3) -> str:
    """The `count` turns with the most words (ties: the earlier), in the order in which they were said."""
    order = sorted(range(len(turns)), key=lambda index: (-len(turns[index].split()), index))
    return " ".join(turns[index] for index in sorted(order[:count]))


class WordModel:
    """Interpolated word n-grams with Witten–Bell weights, over an open vocabulary.

    p(w | h) = (c(h, w) + t(h) · p(w | shorter h)) ÷ (c(h) + t(h)), where c counts and t(h) is how many
    different words followed h. Below the single word stands a spelling model, so that every
    word has a probability and perplexity compares with that of a model that spells. Order 1 is the
    unigram model, 3 the trigram model. Words are what white space separates, with punctuation at their
    end as words of their own. (Witten & Bell 1991; Chen & Goodman 1999, §2.4.)

    Args:
      texts: public messages.
      order: how many words are counted together, ≥ 1.
    """

    def __init__(self, texts: Iterable[str], *, order: int) -> None:
        self.order = order
        self._followers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        self._letters: Counter[str] = Counter()
        for text in texts:
            words = _pieces(text.split())
            self._letters.update("".join(words) + _END * len(words))
            history = (_END,) * (order - 1)
            for word in (*words, _END):
                for start in range(order):
                    self._followers[history[start:]][word] += 1
                history = (*history, word)[1:] if order > 1 else ()
        self._totals = {history: followers.total() for history, followers in self._followers.items()}
        self._spellings: dict[str, float] = {}
        counts = self._followers[()]
        self._frequent = sorted(filter(_is_word, counts), key=lambda word: (-counts[word], -self._spelling(word), word))
        self._suggested: dict[tuple[tuple[str, ...], int], list[tuple[str, float]]] = {}

    def negative_log_likelihood(self, words: Sequence[str], *, ended: bool = True) -> float:
        """Nats of a message's words, and of its end where it is there."""
        history: list[str] = []
        nats = 0.0
        for word in (*_pieces(words), *((_END,) if ended else ())):
            nats -= math.log(self.probability(word, history))
            history.append(word)
        return nats

    def probability(self, word: str, history: Sequence[str]) -> float:
        """p(word | the words of the message before it)."""
        padded = self._padded(history)
        value = self._spelling(word)
        for start in range(len(padded), -1, -1):
            followers = self._followers.get(padded[start:])
            if followers:
                total = self._totals[padded[start:]]
                value = (followers[word] + len(followers) * value) / (total + len(followers))
        return value

    def suggest(self, words: Sequence[str], count: int) -> list[tuple[str, float]]:
        """The `count` likeliest next words after the words of a message so far, with probabilities.

        Neither punctuation nor the end is suggested: whoever is helped has just typed a space.
        """
        history = self._padded(_pieces(words[-self.order :]))
        if (history, count) not in self._suggested:
            # A word that followed no part of the history ranks as its unigram does: the first few suffice.
            candidates = set(self._frequent[:count])
            for start in range(len(history)):
                candidates.update(filter(_is_word, self._followers.get(history[start:], ())))
            scored = [(word, self.probability(word, history)) for word in candidates]
            self._suggested[history, count] = sorted(scored, key=lambda item: (-item[1], item[0]))[:count]
        return self._suggested[history, count]

    def continuation(self, words: Sequence[str], length: int) -> tuple[str, ...]:
        """The likeliest word, `length` times over."""
        written = list(words)
        for _ in range(length):
            best = self.suggest(written, 1)
            if not best:
                break
            written.append(best[0][0])
        return tuple(written[len(words) :])

    def _padded(self, history: Sequence[str]) -> tuple[str, ...]:
        before = self.order - 1
        return ((_END,) * before + tuple(history))[len(history) :] if before else ()

    def _spelling(self, word: str) -> float:
        """Probability of a spelling: letters drawn on their own, each count raised by one.

        What was never seen shares one such count over all of Unicode.
        """
        if word in self._spellings:
            return self._spellings[word]
        total = self._letters.total() + len(self._letters) + 1
        value = 1.0
        for letter in _END if word == _END else word + _END:  # the end is the empty word
            seen = self._letters.get(letter)
            value *= ((seen + 1) if seen is not None else 1 / _UNICODE) / total
        self._spellings[word] = value
        return value


def _pieces(words: Sequence[str]) -> list[str]:
    pieces = []
    for word in words:
        core = bare(word)
        pieces.append(core)
        if len(core) < len(word):
            pieces.append(word[len(core) :])
    return pieces


def _is_word(piece: str) -> bool:
    return piece != _END and bool(piece.rstrip(TRAILING_PUNCTUATION))
