"""Looks at random elements of each sum before and after the noise: what was really added (`privacy.noise_check`).

Which elements is drawn anew for every release from a stream that the system seeds, so that code which would noise
some elements alone cannot know them. What the noise left there is what the optimizer has to read (`engines.leaving`).
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dp_train.engines.parts import Part
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.engines.scaling import Scale
from dp_train.privacy.noise_check import NoiseObservation

_ELEMENTS = 1024
"""Of each tensor: its variance is then known to 4 %, and a run of a hundred steps knows it to 0.4 %."""

_DENSE, _OF_OCTAVE = 512, 64
"""Elements that are watched at every release, to tell noise that comes twice: the first, and a few at each size."""

_SEED_BYTES = 32

_REMEMBERED = 8
"""How many releases back noise is compared with."""


@dataclass(frozen=True, slots=True)
class ReleasedSample:
    """What the optimizer has to read at some elements; as private as the noise.

    Attributes:
      parameters: the trainable tensors, in order.
      elements: of each, (n,) int64 positions in the flat tensor.
      gradients: of each, (n,) what ``p.grad`` has to hold there, in its type.
    """

    parameters: tuple[nn.Parameter, ...]
    elements: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class _Look:
    """The elements of one release, as they were before its noise."""

    elements: tuple[Tensor, ...]
    fresh: tuple[int, ...]  # of each tensor, how many of its elements were drawn for this release; the first of them
    values: NDArray[np.float64]  # of all tensors, one after the other
    sum_norm: float


class NoiseWatch:
    """Keeps what it saw of the releases before, to tell noise that comes twice."""

    def __init__(self) -> None:
        self._random: np.random.Generator | None = None
        self._steady: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._past: deque[NDArray[np.float64]] = deque(maxlen=_REMEMBERED)

    def before(self, totals: Sequence[Tensor], ranks: Ranks = ALONE, share: Sequence[Part] | None = None) -> _Look:
        """Choose elements of each tensor, and note what they hold: in every process the same elements and values.

        Args:
          share: parts of the tensors that hold the sum in this process; None where all of them do.
        """
        if self._random is None:  # seeded by the system, of the first process where there are several
            seed = ranks.from_first(secrets.token_bytes(_SEED_BYTES))
            self._random = np.random.default_rng(int.from_bytes(seed, "big"))
        random = self._random
        sizes = [total.numel() for total in totals]
        if not len(self._steady):
            self._steady = _steady(max(sizes), random)
        fresh = [_strata(size, random) for size in sizes]
        steady = [self._steady[: np.searchsorted(self._steady, size)] for size in sizes]
        counts = [len(one) + len(other) for one, other in zip(fresh, steady, strict=True)]
        flat = np.concatenate([part for pair in zip(fresh, steady, strict=True) for part in pair])
        elements = torch.split(torch.from_numpy(flat).to(totals[0].device), counts)
        own = totals if share is None else [part.of(totals) for part in share]
        norms = torch.stack([torch.zeros((), device=totals[0].device), *map(torch.linalg.vector_norm, own)])
        (squares,) = ranks.sums([float(norms.double().square().sum())])
        values = _read(totals, elements).double().cpu()
        if share is not None and ranks.size > 1:
            values = ranks.merged(torch.where(_held(sizes, elements, share), values, 0.0))
        return _Look(elements=elements, fresh=tuple(map(len, fresh)), values=values.numpy(), sum_norm=squares**0.5)

    def after(self, totals: Sequence[Tensor], look: _Look, std: float) -> NoiseObservation:
        """What the noise of std `std` did to them."""
        noise = (_read(totals, look.elements).double().cpu().numpy() - look.values) / std
        ends = list(accumulate(map(len, look.elements)))
        of_tensors = [noise[start:end] for start, end in pairwise([0, *ends])]
        fresh = [one[:count] for one, count in zip(of_tensors, look.fresh, strict=True)]
        steady = [one[count:] for one, count in zip(of_tensors, look.fresh, strict=True)]
        together = np.concatenate(steady)
        again = [float(together @ earlier) / max(len(together), 1) ** 0.5 for earlier in self._past]
        self._past.append(together)
        # The watched positions of a tensor are the first of a larger one's, so noise that is shared meets itself.
        pairs = [(one[: len(other)], other[: len(one)]) for one, other in pairwise(steady)]
        shared = sum(len(one) for one, _ in pairs)
        return NoiseObservation(
            squares=tuple(float(one @ one) for one in fresh),
            counts=look.fresh,
            lag_correlation=max(again, key=abs, default=0.0),
            cross_correlation=sum(float(one @ other) for one, other in pairs) / max(shared, 1) ** 0.5,
            sum_norm=look.sum_norm,
        )


def released_sample(
    parameters: Sequence[nn.Parameter],
    totals: Sequence[Tensor],
    look: _Look,
    *,
    scales: Mapping[nn.Parameter, Scale],
    divisor: float,
) -> ReleasedSample:
    """What has to arrive of noised sums at the elements of `look`: each ÷ its factor ÷ `divisor`, in its type."""
    gradients = []
    for parameter, total, elements in zip(parameters, totals, look.elements, strict=True):
        values = total.view(-1)[elements]
        if parameter in scales:
            values = values / scales[parameter].at(elements)
        gradients.append((values / divisor).to(parameter.dtype))
    return ReleasedSample(tuple(parameters), look.elements, tuple(gradients))


def _held(sizes: Sequence[int], elements: Sequence[Tensor], share: Sequence[Part]) -> Tensor:
    """Of the elements of all tensors, one after the other, which are in the share."""
    parts = {part.index: part for part in share}
    found = []
    for index, chosen in enumerate(elements):
        part = parts.get(index, Part(index, sizes[index], sizes[index]))
        found.append(((chosen >= part.start) & (chosen < part.stop)).cpu())
    return torch.cat(found)


def _read(totals: Sequence[Tensor], elements: Sequence[Tensor]) -> Tensor:
    return torch.cat([total.view(-1)[chosen] for total, chosen in zip(totals, elements, strict=True)])


def _strata(size: int, random: np.random.Generator) -> NDArray[np.int64]:
    """One element of each of 1,024 equal stretches that begin at a random place; all elements of a small tensor."""
    if size <= _ELEMENTS:
        return np.arange(size, dtype=np.int64)
    stride = size // _ELEMENTS
    start = random.integers(size - stride * _ELEMENTS + 1)
    return np.asarray(start + stride * np.arange(_ELEMENTS) + random.integers(stride, size=_ELEMENTS), dtype=np.int64)


def _steady(largest: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Sorted positions below `largest`: those below n serve a tensor of n elements."""
    found = [np.arange(min(largest, _DENSE), dtype=np.int64)]
    low = _DENSE
    while low < largest:
        found.append(np.unique(random.integers(low, min(2 * low, largest), size=_OF_OCTAVE)))
        low *= 2
    return np.concatenate(found)
