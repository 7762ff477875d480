"""How much of what a model writes stands word for word in what it was trained on: a sign of a leak.

**Private.** It is computed from the training text and no ε covers it: it stays in a run's private folder, and is logged
only where private statistics are asked for.

Method: a suffix automaton of the *outputs* (Blumer et al. 1985), through which the training text passes once. Memory
is bounded by what was written, time by both; nothing of the training text is kept, and nothing is random.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from transformers import PreTrainedTokenizerFast

from dp_train.privacy.tables import Encode
from dp_train.privacy.units import Units
from dp_train.tasks.sequences import IGNORE

_BETWEEN = -1
"""Stands between outputs; no token, so that no span reaches over it."""
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Longest spans, in tokens, that texts share with the training text: the longest of all, and the mean of each."""

    longest: int
    mean: float


def verbatim_overlap(texts: Sequence[str], units: Units, tokenizer: PreTrainedTokenizerFast, encode: Encode) -> Overlap:
    """What `texts` share with the consented rows that `units` train on, prompts and targets.

    Ordinary language repeats itself: hold it against the overlap of text that nobody generated, the references of
    the same examples say.

    Args:
      texts: at least one.
      encode: of the task, whose rows are trained on.
    """
    spans = longest_common_spans(list(_tokens(texts, tokenizer)), _rows(units, encode))
    return Overlap(longest=max(spans), mean=fmean(spans))


def longest_common_spans(outputs: Sequence[Sequence[int]], texts: Iterable[Sequence[int]]) -> list[int]:
    """For each output, the length of the longest run of its tokens that stands in one of the texts.

    >>> longest_common_spans([[1, 2, 3, 4], [7]], [[9, 2, 3], [3, 4, 2]])
    [2, 0]
    """
    return [end - begin for begin, end in common_spans(outputs, texts)]


def common_spans(outputs: Sequence[Sequence[int]], texts: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """For each output, where its longest run of tokens stands that is in one of the texts: [begin, end).

    >>> common_spans([[1, 2, 3, 4], [7]], [[9, 2, 3], [3, 4, 2]])
    [(1, 3), (0, 0)]
    """
    automaton = _Automaton()
    ends: list[list[int]] = []
    for output in outputs:
        automaton.add(_BETWEEN)
        ends.append([automaton.add(token) for token in output])
    longest = automaton.longest(texts)
    found = []
    for states in ends:
        end = max(range(len(states)), key=lambda place: (longest[states[place]], -place), default=-1)
        length = longest[states[end]] if end >= 0 else 0
        found.append((end + 1 - length, end + 1) if length else (0, 0))
    return found


class _Automaton:
    """The suffix automaton of what was added: its states are the sets of spans that end in the same places.

    `_length` of a state is that of its longest span, `_link` leads to the state of the longest shorter suffix.
    """

    def __init__(self) -> None:
        self._next: list[dict[int, int]] = [{}]
        self._link = [-1]
        self._length = [0]
        self._last = 0

    def add(self, token: int) -> int:
        """One token more; the state of all that was added."""
        new = self._state(self._length[self._last] + 1, {})
        before = self._last
        while before >= 0 and token not in self._next[before]:
            self._next[before][token] = new
            before = self._link[before]
        if before < 0:
            self._link[new] = 0
        else:
            after = self._next[before][token]
            if self._length[after] == self._length[before] + 1:
                self._link[new] = after
            else:
                copy = self._state(self._length[before] + 1, dict(self._next[after]))
                self._link[copy] = self._link[after]
                while before >= 0 and self._next[before].get(token) == after:
                    self._next[before][token] = copy
                    before = self._link[before]
                self._link[after] = self._link[new] = copy
        self._last = new
        return new

    def longest(self, texts: Iterable[Sequence[int]]) -> list[int]:
        """For each state, the longest suffix of its spans that stands in one of the texts."""
        found = [0] * len(self._length)
        for text in texts:
            state, length = 0, 0
            for token in text:
                while state and token not in self._next[state]:
                    state = self._link[state]
                    length = self._length[state]
                if token in self._next[state]:
                    state = self._next[state][token]
                    length += 1
                found[state] = max(found[state], length)
        order = sorted(range(1, len(found)), key=lambda state: self._length[state])
        for state in reversed(order):  # what stands in a text, its suffixes do too
            if found[state]:
                found[self._link[state]] = self._length[self._link[state]]
        for state in order:
            found[state] = max(found[state], found[self._link[state]])
        return found

    def _state(self, length: int, following: dict[int, int]) -> int:
        self._next.append(following)
        self._link.append(0)
        self._length.append(length)
        return len(self._length) - 1


def _rows(units: Units, encode: Encode) -> Iterator[Sequence[int]]:
    """Input and target of each row; one sequence where the target stands at the input's end."""
    for unit in range(len(units)):
        for ids, labels in units.tokens(unit, encode):
            target = [token for token in labels if token != IGNORE]
            yield ids
            if list(ids[len(ids) - len(target) :]) != target:
                yield target


def _tokens(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> Iterator[Sequence[int]]:
    left = iter(texts)
    while some := list(islice(left, _AT_ONCE)):
        yield from tokenizer(some, add_special_tokens=False)["input_ids"]
