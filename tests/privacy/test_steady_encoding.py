"""A text is tokenised by itself alone: a task whose tokens depend on the texts before is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from dp_train.conversations import Example
from dp_train.errors import PlanError
from dp_train.privacy.steady_encoding import check_encoding, copied, sample_of

EXAMPLES = [
    Example(
        example_id=str(number),
        prompt="",
        target=f"word{number % 9} and {number}" + "!" * number,
        owners=frozenset({"a"}),
    )
    for number in range(20)
]
_SEEN: dict[str, int] = {}


@dataclass(frozen=True)
class Tokens:
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


def _row(ids: list[int]) -> Tokens:
    return Tokens(tuple(ids), tuple(ids))


class Steady:
    """Remembers what it has encoded, and gives the same all the same."""

    def __init__(self) -> None:
        self.kept: dict[str, Tokens] = {}

    def encode(self, example: Example) -> Tokens:
        return self.kept.setdefault(example.target, _row([ord(letter) for letter in example.target]))


class Numbers:
    """Numbers words in the order in which it meets them."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {}

    def encode(self, example: Example) -> Tokens:
        return _row([self.words.setdefault(word, len(self.words)) for word in example.target.split()])


class NumbersInTheModule:
    """The same, where no copy of the task has words of its own."""

    def encode(self, example: Example) -> Tokens:
        return _row([_SEEN.setdefault(word, len(_SEEN)) for word in example.target.split()])


class NumbersInTheClass(NumbersInTheModule):
    words: dict[str, int] = {}  # noqa: RUF012

    def encode(self, example: Example) -> Tokens:
        return _row([self.words.setdefault(word, len(self.words)) for word in example.target.split()])


class PadsToTheLongest:
    def __init__(self) -> None:
        self.longest = 0

    def encode(self, example: Example) -> Tokens:
        self.longest = max(self.longest, len(example.target))
        return _row([len(example.target)] * self.longest)


class Once:
    """Takes a text that it saw before for nothing new."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def encode(self, example: Example) -> Tokens:
        word = example.target.split()[0]
        new, _ = word not in self.seen, self.seen.add(word)
        return _row([1 if new else 0])


def check(task: object) -> None:
    encode = task.encode  # type: ignore[attr-defined]
    check_encoding(encode, copied(encode), sample_of(len(EXAMPLES)), EXAMPLES.__getitem__)


def test_a_cache_is_no_state() -> None:
    check(Steady())


@pytest.mark.parametrize("kind", [Numbers, NumbersInTheModule, NumbersInTheClass, PadsToTheLongest, Once])
def test_an_encoding_that_learns_is_refused(kind: Callable[[], object]) -> None:
    with pytest.raises(PlanError, match="encode gives a text other tokens after other texts") as error:
        check(kind())
    assert "\n" not in str(error.value)
    assert "word" not in str(error.value).replace("words", "")


def test_a_task_that_cannot_be_copied_is_refused() -> None:
    class Locked(Steady):
        def __deepcopy__(self, memo: object) -> Locked:
            raise TypeError

    with pytest.raises(PlanError, match="cannot be copied"):
        copied(Locked())
