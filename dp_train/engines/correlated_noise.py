"""Noise that takes back some of itself: C⁻¹Z for the banded strategy C of `privacy.correlation`, a step at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dp_train.engines.noise import NoiseSource, SeededNoise
from dp_train.privacy.correlation import NoiseLaw, column_norms, strategy_coefficients


@dataclass(slots=True)
class _Past:
    """The last `bands` − 1 rows of the unscaled C⁻¹Z of one part, newest first, and the step that comes next."""

    step: int = 0
    rows: list[Tensor] = field(default_factory=list)


class CorrelatedNoise:
    """Row `step` of C⁻¹Z, where Z is the independent noise of a `SeededNoise`.

    Guarantee: as that of Z, the noise of a step is a pure function of (seed, step, index, position), whatever the
    parts that are asked for. Asked for a step out of order, as after a resume, it goes through the steps before it
    again.

    Row by row: yₜ = zₜ − Σₖ cₖ yₜ₋ₖ over the b − 1 rows before, times the norm of column t, which scaling
    the columns of C to norm 1 leaves on the rows of its inverse (arXiv 2306.08153, algorithm 9).

    Memory: `bands` − 1 float32 numbers for each element that is asked for, as long as the parts stay the same.

    Args:
      noise: Z, at std 1.
      bands: b of the plan.
      steps: T of the plan: the last columns of C end with it.
    """

    def __init__(self, noise: SeededNoise, *, bands: int, steps: int) -> None:
        coefficients = strategy_coefficients(bands)
        self.bands = bands
        self._noise = noise
        self._coefficients = [float(value) for value in coefficients[1:]]
        self._norms = [float(value) for value in column_norms(coefficients, steps)]
        self._past: dict[tuple[int, int, int], _Past] = {}

    def add(self, tensor: Tensor, std: float, *, step: int, index: int, block: int = 0) -> None:
        """Add std · (C⁻¹Z)ₜ to every element of a contiguous float32 tensor or part, in place; `std` is that of Z."""
        if std == 0:
            return
        part = index, block, tensor.numel()
        past = self._past.get(part)
        if past is None or past.step > step:
            past = self._past[part] = _Past()  # one thread a part, so no lock
        while past.step < step:
            self._next(past, tensor, index, block)
        tensor.add_(self._next(past, tensor, index, block), alpha=std * self._norms[step])

    def _next(self, past: _Past, like: Tensor, index: int, block: int) -> Tensor:
        row = torch.zeros_like(like)
        self._noise.add(row, 1.0, step=past.step, index=index, block=block)
        for coefficient, earlier in zip(self._coefficients, past.rows, strict=False):
            row.add_(earlier, alpha=-coefficient)
        past.rows = [row, *past.rows[: self.bands - 2]] if self.bands > 1 else []
        past.step += 1
        return row


def planned_noise(noise: SeededNoise, law: NoiseLaw) -> NoiseSource:
    """The noise of a mechanism, made from independent noise: `noise` itself where the law is independence."""
    return noise if law.independent else CorrelatedNoise(noise, bands=law.bands, steps=law.steps)
