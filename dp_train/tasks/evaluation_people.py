"""Whose texts are scored: a seeded sample over people, and other people to choose settings on.

Everything here depends on who owns what and on a public seed, never on what a text says. A score over the first
texts of a corpus is one of the few people who wrote most of them; and the best of several settings, on the people
that it was chosen on, is better than it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dp_train.conversations import Example


@dataclass(frozen=True, slots=True)
class Apart:
    """Examples of two groups of people: `tuning`, to choose settings on, and `reported`, who chose nothing.

    Guarantee: no person owns an example of both. Examples that people of both groups own together are in neither.
    """

    tuning: tuple[Example, ...]
    reported: tuple[Example, ...]


def sample_over_people(examples: Sequence[Example], *, most: int, per_person: int, seed: int) -> tuple[Example, ...]:
    """At most `most` examples, of as many people as they can be of, at most `per_person` of any person.

    In rounds: the first gives each person one example, the second a second one, until there are enough; within a round
    the order is that of a hash under `seed`. So the first n of a sample are the sample of n. An example of several
    people counts for each of them.

    Args:
      most, per_person: ≥ 1. seed: public.
    """
    order = sorted(examples, key=lambda example: _rank(seed, example.example_id))
    found: list[Example] = []
    owned: Counter[str] = Counter()
    for cap in range(1, per_person + 1):
        left = []
        for example in order:
            if len(found) == most:
                return tuple(found)
            if any(owned[person] >= cap for person in example.owners):
                left.append(example)
                continue
            found.append(example)
            owned.update(example.owners)
        order = left
    return tuple(found)


def set_apart(examples: Sequence[Example], *, share: float, seed: int) -> Apart:
    """Take up to `share` of the people for tuning, by a hash of who owns examples together; all others are reported.

    Where people own examples together, some examples are of both groups and lost to both. At least half of all examples
    stay reported, so that a person who is in most meetings is not taken for tuning.

    Args:
      share: in (0, 1) of the people. seed: public.
    """
    count = Counter(example.owners for example in examples)
    groups = sorted(count, key=lambda owners: _rank(seed, *sorted(owners)))
    of_person: dict[str, list[frozenset[str]]] = defaultdict(list)
    for owners in groups:
        for person in owners:
            of_person[person].append(owners)
    tuning: set[str] = set()
    touched: set[frozenset[str]] = set()
    lost = 0
    for owners in groups:
        more = {other for person in owners for other in of_person[person]} - touched
        weight = sum(count[other] for other in more)
        if len(tuning | owners) <= share * len(of_person) and 2 * (lost + weight) <= len(examples):
            tuning |= owners
            touched |= more
            lost += weight
    return Apart(
        tuning=tuple(example for example in examples if example.owners <= tuning),
        reported=tuple(example for example in examples if example.owners.isdisjoint(tuning)),
    )


def _rank(seed: int, *names: str) -> bytes:
    """A place in an order that nothing but ids and the seed decide."""
    digest = hashlib.sha256(f"dp_train evaluation {seed}".encode())
    for name in names:
        digest.update(b"\x00" + name.encode("utf-8", "surrogatepass"))
    return digest.digest()


__all__ = ["Apart", "sample_over_people", "set_apart"]
