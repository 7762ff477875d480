"""From drawn units to microbatches of whole units, of like length so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dp_train.conversations import Example
from dp_train.engines.base import MicroBatch, StepRecord
from dp_train.privacy.units import Units
from dp_train.tasks.base import PacksRows, Row, Task
from dp_train.tasks.packing import row_columns, share_sequences
from dp_train.tasks.sequences import IGNORE


class Batches(Protocol):
    """A step's draw → its microbatches. A pure function of the draw. How a step is cut changes no clipped sum."""

    def __call__(self, draw: NDArray[np.int64]) -> Iterator[MicroBatch]: ...

    def recount(self, record: StepRecord, draw: NDArray[np.int64]) -> StepRecord:
        """The engine's record, with units counted where it could only count sequences."""
        ...

    def cost(self, unit: int) -> int:
        """About what a unit's gradient takes: its tokens."""
        ...


PACKED_LENGTH = 256
"""Most columns of a packed sequence: attention pays for pairs of columns, and beyond this nothing is gained."""


class Packing(Enum):
    """Which rows may share a sequence."""

    NONE = "none"
    WITHIN_UNITS = "within_units"
    """Rows of one unit, which share its clip."""
    ACROSS_UNITS = "across_units"
    """Any rows of a step. Their gradients cannot be told apart, so nothing can be clipped: only without privacy."""


class UnitBatches(Batches):
    """Cuts a step's draw into microbatches of about `rows` rows; a unit is never split, so that its rows share a clip.

    Args:
      units: of which a draw names some.
      rows: most rows of a microbatch, unless a single unit has more.
      by_token: whether each label of a step counts alike, in place of each row; without privacy alone.
    """

    def __init__(
        self,
        units: Sequence[Sequence[Example]],
        task: Task,
        *,
        rows: int,
        device: torch.device,
        by_token: bool = False,
    ) -> None:
        self._encoded = _Encoded(units, task)
        self._task = task
        self._rows = rows
        self._device = device
        self._by_token = by_token

    def __call__(self, draw: NDArray[np.int64]) -> Iterator[MicroBatch]:
        drawn = [(int(index), self._encoded[int(index)]) for index in draw]
        drawn.sort(key=lambda one: _longest(one[1]), reverse=True)
        counted = _by_token([row for _, rows in drawn for row in rows]) if self._by_token else None
        taken = 0
        encoded = [rows for _, rows in drawn]
        start = 0
        while start < len(encoded):
            stop, rows = start + 1, len(encoded[start])
            while stop < len(encoded) and rows + len(encoded[stop]) <= self._rows:
                rows += len(encoded[stop])
                stop += 1
            chunk = encoded[start:stop]
            inputs = self._task.collate([row for unit in chunk for row in unit])
            names = [index for index, _ in drawn[start:stop]]
            weights = None if counted is None else counted[taken : taken + rows]
            yield _microbatch(inputs, [len(unit) for unit in chunk], self._device, names, weights)
            start, taken = stop, taken + rows

    def recount(self, record: StepRecord, draw: NDArray[np.int64]) -> StepRecord:
        return record

    def cost(self, unit: int) -> int:
        return self._encoded.tokens(unit)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """Rows that share a sequence, and what each row's loss counts in it."""

    rows: tuple[Row, ...]
    weights: tuple[float, ...]

    @property
    def length(self) -> int:
        return sum(map(row_columns, self.rows))


class PackedBatches(Batches):
    """Cuts a step's draw into microbatches of about `tokens` columns, in which rows share sequences.

    To an engine a sequence is a row: a unit's gradient is the mean of its sequences', whose rows are weighted
    such that this is the mean of the unit's rows. Sequences beside each other are of like length, and units of like
    number of sequences.

    With `Packing.ACROSS_UNITS` each sequence passes for a unit of one row; the sum over all units is the same,
    and how many there were the engine cannot know.

    Args:
      units: of which a draw names some.
      tokens: most columns of a microbatch, padding among them, unless a single unit has more; bounds memory.
      length: most columns of a sequence, unless a single row has more.
      by_token: whether each label of a step counts alike, in place of each row; with `Packing.ACROSS_UNITS` alone.
    """

    def __init__(
        self,
        units: Sequence[Sequence[Example]],
        task: Task,
        *,
        packing: Packing = Packing.WITHIN_UNITS,
        tokens: int,
        length: int = PACKED_LENGTH,
        device: torch.device,
        by_token: bool = False,
    ) -> None:
        assert isinstance(task, PacksRows)
        assert packing is Packing.ACROSS_UNITS or not by_token
        self._by_token = by_token
        self._encoded = _Encoded(units, task)
        self._task = task
        self._packing = packing
        self._tokens = tokens
        self._length = length
        self._device = device

    def __call__(self, draw: NDArray[np.int64]) -> Iterator[MicroBatch]:
        drawn = [(int(index), self._encoded[int(index)]) for index in draw]
        if self._packing is Packing.ACROSS_UNITS:
            units = [(-1, [one]) for one in self._pack([rows for _, rows in drawn])]
        else:
            units = [(index, self._pack([rows])) for index, rows in drawn]
        units.sort(key=lambda named: (len(named[1]), max(one.length for one in named[1])), reverse=True)
        chunk: list[tuple[int, list[_Sequence]]] = []
        width = count = 0
        for index, unit in units:
            longest = max(one.length for one in unit)
            if chunk and max(width, longest) * (count + len(unit)) > self._tokens:
                yield self._collate(chunk)
                chunk, width, count = [], 0, 0
            chunk.append((index, unit))
            width, count = max(width, longest), count + len(unit)
        if chunk:
            yield self._collate(chunk)

    def recount(self, record: StepRecord, draw: NDArray[np.int64]) -> StepRecord:
        return replace(record, units=len(draw)) if self._packing is Packing.ACROSS_UNITS else record

    def cost(self, unit: int) -> int:
        return self._encoded.tokens(unit)

    def _pack(self, units: Sequence[tuple[Row, ...]]) -> list[_Sequence]:
        """All rows of the units; the mean of a unit's rows is what its rows count together."""
        rows = [row for unit in units for row in unit]
        weights = _by_token(rows) if self._by_token else [1 / len(unit) for unit in units for _ in unit]
        shared = share_sequences(list(map(row_columns, rows)), length=self._length) if rows else []
        scale = 1 if self._packing is Packing.ACROSS_UNITS else len(shared)  # the engine takes the mean of sequences
        return [
            _Sequence(tuple(rows[row] for row in chosen), tuple(scale * weights[row] for row in chosen))
            for chosen in shared
        ]

    def _collate(self, units: Sequence[tuple[int, Sequence[_Sequence]]]) -> MicroBatch:
        sequences = [one for _, unit in units for one in unit]
        inputs = self._task.collate_packed([one.rows for one in sequences], [one.weights for one in sequences])
        names = [index for index, _ in units if index >= 0]
        return _microbatch(inputs, [len(unit) for _, unit in units], self._device, names)


def make_batches(
    units: Sequence[Sequence[Example]],
    task: Task,
    *,
    packing: Packing,
    rows: int,
    tokens: int,
    device: torch.device,
    by_token: bool = False,
) -> Batches:
    """Make what cuts the draws of `units`; `rows` bounds microbatches that are not packed, `tokens` those that are."""
    if packing is Packing.NONE:
        return UnitBatches(units, task, rows=rows, device=device, by_token=by_token)
    return PackedBatches(units, task, packing=packing, tokens=tokens, device=device, by_token=by_token)


def _by_token(rows: Sequence[Row]) -> list[float]:
    """What each row's mean loss counts, so that the sum over rows ÷ rows is the mean over all their labels."""
    counts = [sum(label != IGNORE for label in row.labels) for row in rows]
    mean = sum(counts) / max(1, len(counts))
    return [count / mean if mean else 0.0 for count in counts]


class _Encoded:
    """Rows of each unit, encoded when they are first asked for, or read from the table that has them."""

    def __init__(self, units: Sequence[Sequence[Example]], task: Task) -> None:
        self._units = units
        self._task = task
        self._kept: dict[int, tuple[Row, ...]] = {}

    def __getitem__(self, index: int) -> tuple[Row, ...]:
        if isinstance(self._units, Units) and self._units.tabled:
            return tuple(Row(*tokens) for tokens in self._units.tokens(index, self._task.encode))
        if index not in self._kept:
            self._kept[index] = tuple(self._task.encode(example) for example in self._units[index])
        return self._kept[index]

    def tokens(self, index: int) -> int:
        """How many ids and labels a unit has."""
        return sum(len(row.input_ids) + len(row.labels) for row in self[index])


def _microbatch(
    inputs: dict[str, Tensor],
    counts: Sequence[int],
    device: torch.device,
    names: Sequence[int],
    weights: Sequence[float] | None = None,
) -> MicroBatch:
    """`counts`: rows of each unit, in order. `names`: which units they are; none where units share sequences."""
    owner = [position for position, count in enumerate(counts) for _ in range(count)]
    return MicroBatch(
        inputs={name: tensor.to(device) for name, tensor in inputs.items()},
        units=torch.tensor(owner, dtype=torch.int64, device=device),
        num_units=len(counts),
        drawn=tuple(names),
        weights=None if weights is None else torch.tensor(weights, dtype=torch.float32, device=device),
    )


def _longest(unit: tuple[Row, ...]) -> int:
    return max(len(row.input_ids) for row in unit)
