"""Whose data is protected, and which two data sets must look alike."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from dp_train.words import Word


class Unit(Word):
    """Whose data is protected: all of one person's, or one example's."""

    USER = "user"
    EXAMPLE = "example"


class NeighboringRelation(Enum):
    """Which two data sets must look alike; the names are those of dp_accounting."""

    ADD_OR_REMOVE_ONE = "add_or_remove_one"
    REPLACE_SPECIAL = "replace_special"


def strictest(relations: Iterable[NeighboringRelation]) -> NeighboringRelation:
    """Return the one relation under which runs of all `relations` can be accounted together.

    To take a unit out of a sum and to replace it by nothing are the same, so `REPLACE_SPECIAL` covers both.
    """
    if NeighboringRelation.REPLACE_SPECIAL in set(relations):
        return NeighboringRelation.REPLACE_SPECIAL
    return NeighboringRelation.ADD_OR_REMOVE_ONE


__all__ = ["NeighboringRelation", "Unit", "strictest"]
