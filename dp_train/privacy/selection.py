"""Which examples are kept so that nobody owns more than k of them (PRIVACY.md §2).

Reference: Ganesh et al. 2025, "It's My Data Too: Private ML for Datasets with Multi-User Training Examples"
(arXiv 2503.03622), whose greedy contribution bounding is the baseline here.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dp_train.conversations import Example
from dp_train.errors import DataError, PlanError
from dp_train.privacy.matching import most_within


def in_public_order(examples: Iterable[Example]) -> list[Example]:
    """The examples by id, whatever order they came in.

    Raises:
      DataError: an id occurs twice, so that the order would depend on the order of arrival.
    """
    ordered = sorted(examples, key=lambda example: example.example_id)
    for before, after in pairwise(ordered):
        if before.example_id == after.example_id:
            raise DataError(f"examples: id {after.example_id} occurs twice; give every example an id of its own")
    return ordered


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """Examples of which nobody owns too many.

    Attributes:
      examples: what is kept, by id.
      most: no selection within the bound keeps more examples than this.
    """

    examples: list[Example]
    most: int


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
    Binomial(k, q) at most, and that mixture is what `accounting.event` charges. Under a relation in which a person
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
    return Bounded(examples=[ordered[index] for index in matching.kept], most=matching.most)


def rows_by_owner(examples: Iterable[Example], rows_per_unit: int) -> list[tuple[Example, ...]]:
    """Each person's first `rows_per_unit` examples, people by id; every example has one owner.

    A person's examples are ordered by the SHA-256 of their ids: a public order that favours neither old ones nor new.
    """
    if rows_per_unit < 1:
        raise PlanError(f"selection: rows_per_unit={rows_per_unit}; expected at least 1")
    rows: defaultdict[str, list[Example]] = defaultdict(list)
    for example in in_public_order(examples):
        (owner,) = example.owners
        rows[owner].append(example)
    return [_first(rows[owner], rows_per_unit) for owner in sorted(rows)]


def _first(examples: Sequence[Example], count: int) -> tuple[Example, ...]:
    return tuple(sorted(examples, key=lambda example: hashlib.sha256(example.example_id.encode()).digest())[:count])
