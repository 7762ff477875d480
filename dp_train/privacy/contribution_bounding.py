"""Choose examples so that no person owns more than k of them (docs/privacy.md, One plan).

Reference: Ganesh et al. 2025, "It's My Data Too: Private ML for Datasets with Multi-User Training Examples"
(arXiv 2503.03622), whose greedy contribution bounding is the baseline here.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dp_train.conversations import Example
from dp_train.errors import DataError, PlanError
from dp_train.privacy.matching import most_within
from dp_train.privacy.plan import Unit


def in_public_order(examples: Iterable[Example]) -> list[Example]:
    """The examples by id, whatever order they came in.

    Raises:
      DataError: an id occurs twice, so that the order would depend on the order of arrival.
    """
    ordered = sorted(examples, key=lambda example: example.example_id)
    for before, after in pairwise(ordered):
        if before.example_id == after.example_id:
            raise _repeated(after.example_id)
    return ordered


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """Examples of which no person owns too many.

    Attributes:
      examples: what is kept, by id.
      upper_bound: no selection within the bound keeps more examples than this.
    """

    examples: list[Example]
    upper_bound: int


def bounded_contributions(examples: Iterable[Example], max_contributions: int) -> Bounded:
    """A subset in which every person owns at most `max_contributions` examples.

    Guarantee: the subset depends on ids and on who owns what, and on nothing that was said. No further example could
    be added to it. It is never smaller than the greedy one (fewest owners first, ties by id) of Ganesh et al. 2025, and
    is that one where nothing larger is found.

    Why this is private, under fixed-graph DP (Ganesh et al. 2025, definition of "fixed-graph"): two neighbouring data
    sets have the same ids and the same owners, and in one of them the examples that one person owns are empty: they
    add nothing to any sum. (Examples that say something *else* instead are two such steps apart.) The selection is a
    function f(ids, owners), however clever f is, so both sets keep *the same* examples, and the person owns at most k
    of them. Each kept example enters a step by a coin of its own, so the number of the person's examples in a step is
    Binomial(k, q) at most, and `mechanisms.multi_owner` charges that mixture. Under a relation in which a person
    may *join* or leave this fails for any f, greedy or not: one more meeting may push others out. That is
    the reason why the claim says "fixed meeting graph".

    Small meetings hold fewer people back, so the subset leans to them; a report has to say so.

    Raises:
      PlanError: the bound is below 1.
      DataError: an id occurs twice.
    """
    if max_contributions < 1:
        raise PlanError(f"selection: max_contributions={max_contributions}; expected at least 1")
    ordered = in_public_order(examples)
    number = {person: place for place, person in enumerate(sorted({p for e in ordered for p in e.owners}))}
    groups = [sorted(number[person] for person in example.owners) for example in ordered]
    matching = most_within(groups, max_contributions)
    return Bounded(examples=[ordered[index] for index in matching.kept], upper_bound=matching.upper_bound)


def rows_by_owner(examples: Iterable[Example], rows_per_unit: int) -> list[tuple[Example, ...]]:
    """Each person's first `rows_per_unit` examples, people by id; every example has one owner.

    A person's examples are ordered by the SHA-256 of their ids: a public order that favours neither old ones nor new.
    """
    seen = list(examples)
    selected = Ownership.of(seen).select(lambda: ids_of(seen), unit=Unit.USER, rows_per_unit=rows_per_unit)
    return [tuple(seen[index] for index in unit) for unit in selected.units()]


def ids_of(examples: Iterable[Example]) -> Iterator[str]:
    """The public ids, in order."""
    return (example.example_id for example in examples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """Which examples make which units, by their number in the order of arrival.

    Attributes:
      examples: (kept,) int64, unit after unit, without places (`Example`). ends: (units + 1,) int64, where each unit
        begins and the last ends.
      chosen: (chosen,) int64, the same with the places that the selection chose: what reports count.
      max_contributions, rows_per_unit: what the selection kept to.
      upper_bound: see `Bounded`; None where there was no choice.
    """

    unit: Unit
    examples: NDArray[np.int64]
    ends: NDArray[np.int64]
    chosen: NDArray[np.int64]
    max_contributions: int
    rows_per_unit: int
    upper_bound: int | None

    def units(self) -> Iterator[list[int]]:
        """The examples of each unit."""
        for start, end in pairwise(self.ends):
            yield self.examples[start:end].tolist()


class Ownership:
    """Who owns what, compactly: of an example 25 bytes and 4 an owner, whatever it says.

    Guarantee: where examples have several owners, which are chosen is a function of owners and public ids alone; places
    (`Example`) are chosen as if they said something, and left out of the units afterwards, where they add nothing.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._owners = array("i")
        self._ends = array("q", [0])
        self._digests = bytearray()  # 16 bytes of SHA-256 an id: the order of a person's rows
        self._empty = bytearray()  # 1 for a place

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Ownership:
        """That of examples in memory."""
        ownership = cls()
        for example in examples:
            ownership.add(example.example_id, example.owners, empty=example.empty)
        return ownership

    def add(self, example_id: str, owners: Iterable[str], *, empty: bool = False) -> None:
        """Note the next example, or place."""
        self._empty.append(empty)
        self._digests += hashlib.sha256(example_id.encode()).digest()[:16]
        self._owners.extend(self._numbers.setdefault(person, len(self._numbers)) for person in sorted(owners))
        self._ends.append(len(self._owners))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(examples,) how many people own each."""
        ends = np.frombuffer(self._ends, dtype=np.int64)
        return ends[1:] - ends[:-1]

    @property
    def num_people(self) -> int:
        """How many people own something."""
        return len(self._numbers)

    @property
    def rows_per_person(self) -> NDArray[np.int64]:
        """(people,) how many examples each owns, alone or with others."""
        return np.bincount(np.frombuffer(self._owners, dtype=np.int32), minlength=self.num_people).astype(np.int64)

    def people(self, examples: NDArray[np.int64]) -> frozenset[str]:
        """Who owns one of those examples, at least."""
        chosen = np.zeros(len(self), dtype=bool)
        chosen[examples] = True
        kept = np.zeros(self.num_people, dtype=bool)
        kept[np.frombuffer(self._owners, dtype=np.int32)[np.repeat(chosen, self.sizes)]] = True
        return frozenset(person for person, number in self._numbers.items() if kept[number])

    def select(
        self,
        ids: Callable[[], Iterable[str]],
        *,
        unit: Unit,
        max_contributions: int = 1,
        rows_per_unit: int = 1,
    ) -> Selected:
        """Units of which no person owns too many, as `build_units` says.

        Args:
          ids: reads the public ids in the order of arrival.

        Raises:
          DataError: an id occurs twice. PlanError: a bound is below 1.
        """
        for name, bound in (("max_contributions", max_contributions), ("rows_per_unit", rows_per_unit)):
            if bound < 1:
                raise PlanError(f"selection: {name}={bound}; expected at least 1")
        self._refuse_repeats(ids)
        if unit is Unit.EXAMPLE:
            named = list(ids())
            chosen = np.array(sorted(range(len(named)), key=named.__getitem__), dtype=np.int64)
            return self._each(unit, chosen, max_contributions=1, upper_bound=None)
        if bool((self.sizes == 1).all()):
            chosen, ends = self._first_of_each_person(rows_per_unit)
            return Selected(
                unit=unit,
                examples=chosen,
                ends=ends,
                chosen=chosen,
                max_contributions=1,
                rows_per_unit=rows_per_unit,
                upper_bound=None,
            )
        people = list(self._numbers)
        shared = [
            Example(
                example_id=example_id,
                prompt="",
                target="",
                owners=frozenset(people[number] for number in self._owners[start:end]),
            )
            for example_id, (start, end) in zip(ids(), pairwise(self._ends), strict=True)
        ]
        places = {example.example_id: place for place, example in enumerate(shared)}
        bounded = bounded_contributions(shared, max_contributions)
        chosen = np.array([places[example.example_id] for example in bounded.examples], dtype=np.int64)
        return self._each(unit, chosen, max_contributions=max_contributions, upper_bound=bounded.upper_bound)

    def _each(
        self, unit: Unit, chosen: NDArray[np.int64], *, max_contributions: int, upper_bound: int | None
    ) -> Selected:
        """A unit an example; the places among them are none."""
        examples = chosen[~self._places()[chosen]]
        return Selected(
            unit=unit,
            examples=examples,
            ends=np.arange(len(examples) + 1, dtype=np.int64),
            chosen=chosen,
            max_contributions=max_contributions,
            rows_per_unit=1,
            upper_bound=upper_bound,
        )

    def _first_of_each_person(self, rows_per_unit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of those that say something: with one owner it is the owner's own affair which rows there are."""
        said = np.flatnonzero(~self._places())
        rank = np.empty(self.num_people, dtype=np.int32)
        rank[[self._numbers[person] for person in sorted(self._numbers)]] = np.arange(self.num_people, dtype=np.int32)
        owner = rank[np.frombuffer(self._owners, dtype=np.int32)][said]
        words = self._words()[said]
        order = np.lexsort((words[:, 1], words[:, 0], owner))
        counts = np.bincount(owner, minlength=self.num_people)
        starts = np.cumsum(counts) - counts
        place = np.arange(len(order)) - np.repeat(starts, counts)  # of each example among its owner's
        kept = np.minimum(counts[counts > 0], rows_per_unit)
        return said[order[place < rows_per_unit]], np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)

    def _places(self) -> NDArray[np.bool_]:
        return np.frombuffer(self._empty, dtype=np.uint8).astype(np.bool_)

    def _words(self) -> NDArray[np.uint64]:
        return np.frombuffer(self._digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)

    def _refuse_repeats(self, ids: Callable[[], Iterable[str]]) -> None:
        words = np.sort(self._words()[:, 0])
        if not bool((words[1:] == words[:-1]).any()):
            return
        seen: set[str] = set()
        for example_id in ids():
            if example_id in seen:
                raise _repeated(example_id)
            seen.add(example_id)


def _repeated(example_id: str) -> DataError:
    """The error of a repeated id; what follows "/" in one may be of a person, and is not shown."""
    conversation, slash, _ = example_id.partition("/")
    shown = conversation + ("/…" if slash else "")
    return DataError(f"examples: id {shown} occurs twice; give every example an id of its own")
