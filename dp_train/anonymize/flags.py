"""What the words of a text may stand for, as bits: most words stand for nothing, and are known by now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

_MOST, _LONGEST = 1 << 16, 32


class Flags:
    """A function from words to the bits that any of them has.

    Words recur: those without a bit, not more than 65,536 and each of at most 32 letters, and the bits of some thousand
    others are kept in the memory of this process alone.

    Args:
      of: the bits of one word; 0 for most.
    """

    def __init__(self, of: Callable[[str], int]) -> None:
        self._of = lru_cache(maxsize=1 << 12)(of)
        self._plain: set[str] = set()

    def __call__(self, words: Sequence[str]) -> int:
        """The bits of all words together."""
        if self._plain.issuperset(words):
            return 0
        bits = 0
        for word in set(words).difference(self._plain):
            if here := self._of(word):
                bits |= here
            elif len(word) <= _LONGEST:
                if len(self._plain) >= _MOST:
                    self._plain.clear()
                self._plain.add(word)
        return bits

    def forget(self) -> None:
        """Ask anew for every word."""
        self._of.cache_clear()
        self._plain.clear()
