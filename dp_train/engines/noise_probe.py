"""Looks at a few elements of each sum before and after the noise: what really was added (`privacy.noise_check`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dp_train.privacy.noise_check import NoiseObservation

_ELEMENTS = 1024
"""Of each tensor: its variance is then known to 4 %, and a run of a hundred steps knows it to 0.4 %."""


class NoiseWatch:
    """Keeps what it saw of the release before, to tell noise that comes twice."""

    def __init__(self) -> None:
        self._last: list[Tensor] = []

    def before(self, totals: Sequence[Tensor]) -> list[Tensor]:
        """Copies of the elements that are watched."""
        return [_watched(total).clone() for total in totals]

    def after(self, totals: Sequence[Tensor], before: Sequence[Tensor], std: float) -> NoiseObservation:
        """What the noise of std `std` did to them."""
        noise = [(_watched(total).double() - was.double()).div_(std) for total, was in zip(totals, before, strict=True)]
        counts = tuple(one.numel() for one in noise)
        lag_correlation = [(one * last).sum() for one, last in zip(noise, self._last, strict=False)]
        pairs = [(one[: len(other)] * other[: len(one)]).sum() for one, other in pairwise(noise)]
        shared = sum(map(min, counts, counts[1:]))
        self._last = noise
        return NoiseObservation(
            squares=tuple(torch.stack([one.square().sum() for one in noise]).tolist()),
            counts=counts,
            lag_correlation=_standardised(lag_correlation, sum(counts)),
            cross_correlation=_standardised(pairs, shared),
            sum_norm=float(torch.stack([was.double().square().sum() for was in before]).sum().sqrt()),
        )


def _watched(total: Tensor) -> Tensor:
    return total.view(-1)[:_ELEMENTS]


def _standardised(products: Sequence[Tensor], count: int) -> float:
    return float(torch.stack(list(products)).sum()) / max(count, 1) ** 0.5 if products else 0.0
