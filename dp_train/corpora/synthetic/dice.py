"""Choices that are a pure function of a key, equal on every machine and Python version."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of choices named by a key.

    Guarantee: equal keys give equal choices. Only `Random.random` is used, the one method whose
    values Python promises to keep.

    Args:
      key: public numbers and words, for example seed, population and index.
    """

    __slots__ = ("_draw",)

    def __init__(self, *key: int | str) -> None:
        name = "/".join(map(str, key)).encode()
        self._draw = Random(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")).random

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, each as likely."""
        return options[int(self._draw() * len(options))]

    def below(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        return int(self._draw() * bound)

    def between(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return low + int(self._draw() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self._draw() < probability

    def weighted(self, cumulative: Sequence[float]) -> int:
        """Index drawn by cumulative weights, as `cumulative_weights` gives them."""
        return bisect_right(cumulative, self._draw() * cumulative[-1], 0, len(cumulative) - 1)

    def normal(self) -> float:
        """A standard normal number (Box–Muller), rounded: libraries differ in the last digits of a logarithm."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self._draw()))
        return round(radius * math.cos(math.tau * self._draw()), 6)

    def order(self, items: Sequence[T]) -> list[T]:
        """`items` in a random order."""
        shuffled = list(items)
        for last in range(len(shuffled) - 1, 0, -1):
            other = int(self._draw() * (last + 1))
            shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
        return shuffled

    def some(self, options: Sequence[T], count: int) -> tuple[T, ...]:
        """`count` different entries of `options`, or all where there are fewer."""
        chosen: dict[int, None] = {}
        while len(chosen) < min(count, len(options)):
            chosen[self.below(len(options))] = None
        return tuple(options[index] for index in chosen)

    def text(self, alphabet: str, length: int) -> str:
        """`length` characters of `alphabet`."""
        return "".join(self.pick(alphabet) for _ in range(length))


def cumulative_weights(weights: Sequence[float]) -> tuple[float, ...]:
    """Running sums, for `Dice.weighted`."""
    return tuple(accumulate(weights))
