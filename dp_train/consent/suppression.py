"""Tables of counts without the small ones, and without what would give them away.

A count from 1 to 9 says something about a few people, so it is hidden; so are as many others as it takes that nobody
can work it out from the totals (complementary suppression). Zero and larger counts are shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SMALL = 10
"""Counts of people from 1 to one below this are hidden."""

_Cell = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Published:
    """A table as it may be shown: None is hidden. `rows` without margins; then the totals of rows, columns, and all."""

    rows: tuple[tuple[int | None, ...], ...]
    row_totals: tuple[int | None, ...]
    column_totals: tuple[int | None, ...]
    total: int | None


def publish(counts: Sequence[Sequence[int]]) -> Published:
    """Hide small counts, and what they could be derived from.

    Guarantee: for whoever knows all that is shown, every hidden count below `SMALL` has a range of at least
    `SMALL` possible values in a row. It holds for one table alone: two tables of nearly the same people, or of two
    days, may tell more together.

    Args:
      counts: one row each, all of one length; people are counted once in a table.
    """
    table = _with_totals(counts)
    height, width = len(table), len(table[0])
    cells = [(row, column) for row in range(height) for column in range(width)]
    small = [cell for cell in cells if 0 < _at(table, cell) < SMALL]
    hidden = set(small)
    for cell in small:
        hidden |= _cover(table, cell, hidden)
    shown = [
        [None if (row, column) in hidden else value for column, value in enumerate(line)]
        for row, line in enumerate(table)
    ]
    return Published(
        rows=tuple(tuple(line[:-1]) for line in shown[:-1]),
        row_totals=tuple(line[-1] for line in shown[:-1]),
        column_totals=tuple(shown[-1][:-1]),
        total=shown[-1][-1],
    )


def _cover(table: list[list[int]], cell: _Cell, hidden: set[_Cell]) -> set[_Cell]:
    """The cheapest rectangle with `cell` at a corner within which it can move by `SMALL` while all else stays.

    Along a rectangle of hidden cells a count can be moved from corner to corner with every sum kept. The one to both
    totals always does, for a hidden total has no upper end.
    """
    row, column = cell
    best: tuple[tuple[int, int], set[_Cell]] | None = None
    for other_row in range(len(table)):
        for other_column in range(len(table[0])):
            if other_row == row or other_column == column:
                continue
            corners = {(row, other_column), (other_row, column), (other_row, other_column)}
            if _room(table, cell, other_row, other_column) < SMALL:
                continue
            fresh = corners - hidden
            totals = sum(r == len(table) - 1 or c == len(table[0]) - 1 for r, c in fresh)
            cost = (totals, len(fresh) + sum(_at(table, corner) for corner in fresh))
            if best is None or cost < best[0]:
                best = (cost, corners)
    assert best is not None
    return best[1]


def _room(table: list[list[int]], cell: _Cell, other_row: int, other_column: int) -> float:
    """How far a cell can move along a rectangle, up and down together, with no count below 0."""
    (row, column), last_row, last_column = cell, len(table) - 1, len(table[0]) - 1
    corners = [(cell, 1), ((row, other_column), -1), ((other_row, column), -1), ((other_row, other_column), 1)]
    own = _sign(cell, last_row, last_column)
    moves = [(corner, sign * own * _sign(corner, last_row, last_column)) for corner, sign in corners]
    up = min((_at(table, corner) for corner, move in moves if move < 0), default=math.inf)
    down = min((_at(table, corner) for corner, move in moves if move > 0), default=math.inf)
    return up + down


def _sign(cell: _Cell, last_row: int, last_column: int) -> int:
    """A total counts with the other sign, so that every line adds up to nothing."""
    return (-1 if cell[0] == last_row else 1) * (-1 if cell[1] == last_column else 1)


def _at(table: list[list[int]], cell: _Cell) -> int:
    return table[cell[0]][cell[1]]


def _with_totals(counts: Sequence[Sequence[int]]) -> list[list[int]]:
    table = [[*row, sum(row)] for row in counts]
    return [*table, [sum(column) for column in zip(*table, strict=True)]]
