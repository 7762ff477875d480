"""Does a task tokenise a text by that text alone?

A task that numbers words as it meets them, pads to the longest text so far or drops what it has seen before makes
one person's words move other people's rows, where no clip bounds it. So a sample of the texts is encoded in one order
by the task and in the opposite order by a copy of it, which has to give the same tokens.
"""

from __future__ import annotations

import copy
import secrets
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from dp_train.conversations import Example
from dp_train.errors import PlanError

_SAMPLE = 64
_CONTAINERS = (dict, list, set, bytearray, Counter, OrderedDict, defaultdict, deque)

T = TypeVar("T")


def copied(task: T) -> T:
    """A copy of a task that shares no state with it.

    Raises:
      PlanError: it cannot be copied, so that what it keeps of the texts could not be known.
    """
    try:
        return copy.deepcopy(task)
    except Exception as error:
        raise PlanError(
            f"task: cannot be copied ({type(error).__name__}), so whether it keeps anything of the texts cannot be "
            "checked; give it __deepcopy__, or hold open files and locks elsewhere"
        ) from error


def sample_of(size: int) -> list[int]:
    """Up to 64 different numbers below `size`, in random order that nobody else knows."""
    return secrets.SystemRandom().sample(range(size), min(size, _SAMPLE))


def check_encoding(
    encode: Callable[[Example], Any], other: Callable[[Example], Any], sample: Sequence[T], read: Callable[[T], Example]
) -> None:
    """Encode in one order and, by another copy, in the opposite order; one text is in memory at a time.

    Args:
      encode, other: of two copies of a task. What the sample teaches a copy that trains later moves rows, too.
      sample: examples, or what `read` finds them by, in random order.

    Raises:
      PlanError: an example has other tokens, or something outside the task that both share was written to.
    """
    before = list(_shared(encode))
    here = [_tokens(encode(read(each))) for each in sample]
    there = [_tokens(other(read(each))) for each in reversed(sample)]
    if here != there[::-1] or before != list(_shared(encode)):
        raise PlanError(
            "task: encode gives a text other tokens after other texts, so one person's words would move other people's "
            "rows; expected tokens that depend on the example alone; keep no state in encode"
        )


def _tokens(row: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(row.input_ids), tuple(row.labels)


def _shared(encode: Callable[[Example], Any]) -> Iterator[str]:
    """What a copy of the task does not copy, and `encode` could write to: containers and numbers of its classes, of its
    function's module and closure."""
    function = getattr(encode, "__func__", encode)
    spaces: list[Iterable[tuple[str, Any]]] = [
        vars(kind).items() for kind in type(getattr(encode, "__self__", None)).__mro__[:-1]
    ]
    names = _names(getattr(function, "__code__", None))
    outside = getattr(function, "__globals__", {})
    spaces.append((name, outside[name]) for name in sorted(names) if name in outside)
    cells = getattr(function, "__closure__", None) or ()
    spaces.append((str(number), _content(cell)) for number, cell in enumerate(cells))
    for space in spaces:
        for name, value in sorted(space, key=lambda item: item[0]):
            if not name.startswith("__") and isinstance(value, (*_CONTAINERS, int, float, str)):
                yield f"{name}={len(value) if isinstance(value, _CONTAINERS) else value}"


def _names(code: Any) -> set[str]:
    if code is None:
        return set()
    return set(code.co_names).union(*(_names(one) for one in code.co_consts if hasattr(one, "co_names")))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
