"""From drawn units to microbatches of whole units, sorted by length so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dp_train.engines.base import MicroBatch
from dp_train.privacy.units import Units
from dp_train.tasks.base import Row, Task


class UnitBatches:
    """Cuts a step's draw into microbatches of about `rows` rows.

    A unit is never split, so that its rows share one clip. How a step is cut does not change the
    clipped sum; it only bounds memory.
    """

    def __init__(self, units: Units, task: Task, *, rows: int, device: torch.device) -> None:
        self._units = units
        self._task = task
        self._rows = rows
        self._device = device
        self._encoded: dict[int, tuple[Row, ...]] = {}

    def __call__(self, draw: NDArray[np.int64]) -> Iterator[MicroBatch]:
        encoded = sorted((self._encode(int(index)) for index in draw), key=_length, reverse=True)
        start = 0
        while start < len(encoded):
            stop, rows = start + 1, len(encoded[start])
            while stop < len(encoded) and rows + len(encoded[stop]) <= self._rows:
                rows += len(encoded[stop])
                stop += 1
            yield self._collate(encoded[start:stop])
            start = stop

    def _encode(self, index: int) -> tuple[Row, ...]:
        if index not in self._encoded:
            self._encoded[index] = tuple(self._task.encode(example) for example in self._units[index])
        return self._encoded[index]

    def _collate(self, units: Sequence[tuple[Row, ...]]) -> MicroBatch:
        inputs = self._task.collate([row for unit in units for row in unit])
        owner = [position for position, unit in enumerate(units) for _ in unit]
        return MicroBatch(
            inputs={name: tensor.to(self._device) for name, tensor in inputs.items()},
            units=torch.tensor(owner, dtype=torch.int64, device=self._device),
            num_units=len(units),
        )


def _length(unit: tuple[Row, ...]) -> int:
    return max(len(row.input_ids) for row in unit)
