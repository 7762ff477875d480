"""What a model has to beat: the simplest summaries, and counts of words.

Counts are taken from public text, as a vocabulary is: they would release what they count.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from dp_train.tasks.metrics import TRAILING_PUNCTUATION, bare

_END = "\x00"
_UNICODE = 0x110000
_LETTERS = 5


def lead(turns: Sequence[str], count: int = 3) -> str:
    """The first `count` turns."""
    return " ".join(turns[:count])


def longest(turns: Sequence[str], count: int = 3) -> str:
    """The `count` turns with the most words (ties: the earlier), in the order in which they were said."""
    order = sorted(range(len(turns)), key=lambda index: (-len(turns[index].split()), index))
    return " ".join(turns[index] for index in sorted(order[:count]))


class Counts:
    """Interpolated n-grams of symbols with Witten–Bell weights, down to a base that knows every symbol.

    p(s | h) = (c(h, s) + t(h) · p(s | h without its oldest)) ÷ (c(h) + t(h)), where c counts and t(h) is how
    many different symbols followed h. (Witten & Bell 1991; Chen & Goodman 1999, §2.4.)

    Args:
      sequences: of symbols; each is counted with its end.
      order: how many symbols are counted together, ≥ 1.
      base: probability of a symbol, the end among them, that was never seen.
    """

    def __init__(self, sequences: Iterable[Sequence[str]], *, order: int, base: Callable[[str], float]) -> None:
        self.order = order
        self._base = base
        self._followers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for sequence in sequences:
            symbols = (*sequence, _END)
            for index, symbol in enumerate(symbols):
                history = self.history(symbols[:index])
                for start in range(order):
                    self._followers[history[start:]][symbol] += 1
        self._totals = {history: followers.total() for history, followers in self._followers.items()}

    def history(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """The last order − 1 symbols; before the first of them stand ends."""
        before = self.order - 1
        return ((_END,) * before + tuple(symbols[max(0, len(symbols) - before) :]))[-before:] if before else ()

    def followers(self, history: tuple[str, ...]) -> Counter[str]:
        """How often each symbol followed `history`, which may be shorter than order − 1."""
        return self._followers.get(history, Counter())

    def probability(self, symbol: str, history: tuple[str, ...]) -> float:
        """p(symbol | history)."""
        value = self._base(symbol)
        for start in range(len(history), -1, -1):
            followers = self._followers.get(history[start:])
            if followers:
                value = (followers[symbol] + len(followers) * value) / (self._totals[history[start:]] + len(followers))
        return value

    def negative_log_likelihood(self, symbols: Sequence[str], *, ended: bool = True) -> float:
        """Nats of the symbols, and of their end where it is there."""
        whole = (*symbols, _END) if ended else tuple(symbols)
        return -sum(
            math.log(self.probability(symbol, self.history(whole[:index]))) for index, symbol in enumerate(whole)
        )


class WordModel:
    """Word n-grams over an open vocabulary: order 1 is the unigram model, 3 the trigram model.

    Words are what white space separates, with punctuation at their end as words of their own. A word
    that was never seen is spelled, by n-grams of letters that were counted in the same text; so every message
    has a probability, and perplexity compares with that of a model that spells.

    Args:
      texts: public messages.
      order: how many words are counted together, ≥ 1.
    """

    def __init__(self, texts: Iterable[str], *, order: int) -> None:
        messages = [_pieces(text.split()) for text in texts]
        kinds = sorted({word for words in messages for word in words})
        self._letters = Counts(kinds, order=_LETTERS, base=lambda letter: 1 / _UNICODE)
        self._spellings: dict[str, float] = {}
        self._words = Counts(messages, order=order, base=self._spelling)
        counts = self._words.followers(())
        self._frequent = sorted(filter(_is_word, counts), key=lambda word: (-counts[word], -self._spelling(word), word))
        self._suggested: dict[tuple[tuple[str, ...], int], list[tuple[str, float]]] = {}

    def negative_log_likelihood(self, words: Sequence[str], *, ended: bool = True) -> float:
        """Nats of a message's words, and of its end where it is there."""
        return self._words.negative_log_likelihood(_pieces(words), ended=ended)

    def probability(self, word: str, before: Sequence[str]) -> float:
        """p(word | the words of the message before it); a word here has no punctuation at its end."""
        return self._words.probability(word, self._words.history(_pieces(before)))

    def suggest(self, words: Sequence[str], count: int) -> list[tuple[str, float]]:
        """The `count` likeliest next words after the words of a message so far, with probabilities.

        Neither punctuation nor the end is suggested: whoever is helped has just typed a space.
        """
        history = self._words.history(_pieces(words[-self._words.order :]))
        if (history, count) not in self._suggested:
            # A word that followed no part of the history ranks as its unigram does: the first few suffice.
            candidates = set(self._frequent[:count])
            for start in range(len(history)):
                candidates.update(filter(_is_word, self._words.followers(history[start:])))
            scored = [(word, self._words.probability(word, history)) for word in candidates]
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

    def _spelling(self, word: str) -> float:
        if word not in self._spellings:
            letters = "" if word == _END else word  # the end of a message is the empty word
            self._spellings[word] = math.exp(-self._letters.negative_log_likelihood(letters))
        return self._spellings[word]


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
