"""Which examples are kept so that nobody owns more than k of them (PRIVACY.md §2).

Reference: Ganesh et al. 2025, "It's My Data Too: Private ML for Datasets with Multi-User Training Examples"
(arXiv 2503.03622), whose greedy contribution bounding this is.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from dp_train.conversations import Example
from dp_train.errors import DataError, PlanError


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


def bounded_contributions(examples: Iterable[Example], max_contributions: int) -> list[Example]:
    """A subset in which every person owns at most `max_contributions` examples, by id.

    Guarantee: greedy in a public order (fewest owners first, ties by id), so the subset depends on who owns
    what and on nothing that was said. No further example could be added to it.

    Small meetings come first, so the subset leans to them; a report has to say so.
    """
    if max_contributions < 1:
        raise PlanError(f"selection: max_contributions={max_contributions}; expected at least 1")
    owned: Counter[str] = Counter()
    kept = []
    # Sorting is stable: within one number of owners the order stays the one by id.
    for example in sorted(in_public_order(examples), key=lambda example: len(example.owners)):
        if all(owned[person] < max_contributions for person in example.owners):
            owned.update(example.owners)
            kept.append(example)
    return in_public_order(kept)


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
