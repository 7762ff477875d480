"""Replay: what of the training text comes out of a model word for word.

- spans: the longest run of tokens of each output that stands in a training row, and in how many people's rows it does;
- details: names, numbers and addresses that stand in one person's rows alone, come out, and were not in the prompt.

Beside each stands the same for the references of the same prompts, which no model wrote: ordinary language repeats
itself. **Private**: it is computed from private data, holds its text, and no ε covers it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dp_train.tasks.base import Sample
from dp_train.tasks.verbatim import common_spans

_LONG, _WIDTH = 8, 4
"""Spans of so many tokens are listed; a token takes so many bytes where spans are looked up."""

_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?:https?://|www\.)\S+|(?<!\w)@\w[\w.-]+")
_NUMBER = re.compile(r"\+?\d(?:[ \t.,:/()-]{0,2}\d){3,}")
_NAME = re.compile(r"(?<!\w)[^\W\d_a-z][^\W\d_]{2,}(?!\w)")

Owners = frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRow:
    """A row that was trained on: its text, its tokens as they entered, and whose words it holds."""

    text: str
    tokens: tuple[int, ...]
    owners: Owners


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of an output that stands in training rows of so many people. Private."""

    tokens: int
    people: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """A name, number or address that stands in one person's rows alone and came out. Private."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What some texts repeat of the training text. Private.

    Attributes:
      texts: how many were compared. longest, mean: tokens of the longest span, of all and on average.
      spans: of 8 tokens and more, the longest first. details: that no prompt gave away.
    """

    texts: int
    longest: int
    mean: float
    spans: tuple[Span, ...]
    details: tuple[Detail, ...]

    @property
    def of_one_person(self) -> int:
        """How many of the long spans stand in one person's rows alone."""
        return sum(span.people == 1 for span in self.spans)

    def numbers(self) -> dict[str, float]:
        """Counts without a word of text; still private."""
        return {
            "texts": self.texts,
            "longest_span": self.longest,
            "mean_span": round(self.mean, 4),
            "long_spans": len(self.spans),
            "long_spans_of_one_person": self.of_one_person,
            "details_of_one_person": len(self.details),
        }

    def values(self) -> dict[str, Any]:
        """What the run's private folder keeps: no word of text, for a person's erasure would not reach it there."""
        return {
            **self.numbers(),
            "spans": [{"tokens": span.tokens, "people": span.people} for span in self.spans],
            "details_by_kind": dict(Counter(detail.kind for detail in self.details)),
        }


def replays(
    samples: Sequence[Sample],
    rows: Iterable[TrainedRow],
    *,
    tokenize: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    decode: Callable[[Sequence[int]], str],
) -> tuple[Replay, Replay]:
    """Compare outputs, and the references beside them, with the training rows.

    Time is linear in the rows and in the texts, but for the long spans, each of which is looked up in every row once.

    Args:
      samples: what was generated or suggested, at least one. rows: read once.
      tokenize: texts → ids as rows have them. decode: ids → text.

    Returns:
      Of the outputs, and of the references.
    """
    kept = list(rows)
    owned = _of_one_person(kept)
    prompts = [sample.prompt for sample in samples]
    return (
        _replay([sample.output for sample in samples], prompts, kept, owned, tokenize, decode),
        _replay([sample.reference for sample in samples], prompts, kept, owned, tokenize, decode),
    )


def details_in(text: str) -> Iterator[Detail]:
    """Addresses, numbers of four digits and more, and capitalised words of a text."""
    for kind, pattern in (("address", _ADDRESS), ("number", _NUMBER), ("name", _NAME)):
        for match in pattern.finditer(text):
            yield Detail(kind=kind, text=match.group())


def _replay(
    texts: Sequence[str],
    prompts: Sequence[str],
    rows: Sequence[TrainedRow],
    owned: frozenset[Detail],
    tokenize: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    decode: Callable[[Sequence[int]], str],
) -> Replay:
    ids = [tuple(one) for one in tokenize(texts)]
    places = common_spans(ids, (row.tokens for row in rows))
    lengths = [end - begin for begin, end in places]
    long = {one[begin:end] for one, (begin, end) in zip(ids, places, strict=True) if end - begin >= _LONG}
    spans = [Span(tokens=len(one), people=_people(one, rows), text=decode(one)) for one in long]
    found = {
        detail
        for text, prompt in zip(texts, prompts, strict=True)
        for detail in details_in(text)
        if detail in owned and detail.text not in prompt
    }
    return Replay(
        texts=len(texts),
        longest=max(lengths, default=0),
        mean=fmean(lengths) if lengths else 0.0,
        spans=tuple(sorted(spans, key=lambda span: (-span.tokens, span.text))),
        details=tuple(sorted(found, key=lambda detail: (detail.kind, detail.text))),
    )


def _of_one_person(rows: Sequence[TrainedRow]) -> frozenset[Detail]:
    """Details that stand in rows of one owner, who is the same in all of them."""
    owners: dict[Detail, str | None] = {}
    for row in rows:
        owner = next(iter(row.owners)) if len(row.owners) == 1 else None
        for detail in details_in(row.text):
            owners[detail] = owner if owners.get(detail, owner) == owner else None
    return frozenset(detail for detail, owner in owners.items() if owner is not None)


def _people(span: Sequence[int], rows: Sequence[TrainedRow]) -> int:
    """How many people own a row that the span stands in."""
    needle = _bytes(span)
    return len({person for row in rows if _stands_in(needle, _bytes(row.tokens)) for person in row.owners})


def _stands_in(needle: bytes, text: bytes) -> bool:
    place = text.find(needle)
    while place >= 0 and place % _WIDTH:
        place = text.find(needle, place + 1)
    return place >= 0


def _bytes(tokens: Sequence[int]) -> bytes:
    return b"".join(token.to_bytes(_WIDTH, "big") for token in tokens)


__all__ = ["Detail", "Replay", "Span", "TrainedRow", "details_in", "replays"]
