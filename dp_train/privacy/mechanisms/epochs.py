"""Every unit once an epoch, by no coin: what a run spends rests on no secret draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dp_train.errors import PlanError
from dp_train.privacy.correlation import NoiseLaw, column_norms, strategy_coefficients
from dp_train.privacy.mechanisms.base import Draw, by_turns, self_composed
from dp_train.privacy.relations import NeighboringRelation
from dp_train.privacy.sampling import DrawLaw, dealt


@dataclass(frozen=True, slots=True)
class EpochSampler:
    """Deals units into `groups` groups, which enter whole and in turns.

    Guarantee: a unit enters every `groups`-th step and no other. Its group is a fair die of its own, so that adding a
    unit moves no other; a draw is a pure function of (seed, step, unit index). The ε holds for a reader who knows it.
    """

    groups: int
    name: ClassVar[str] = "epochs"
    described: ClassVar[str] = "every unit once an epoch, in a step that anyone may know"

    def draw(self, step: int, num_units: int, seed: bytes) -> NDArray[np.int64]:
        """Sorted indices of the units that enter `step`; may be empty. Arguments as of `PoissonSampler.draw`."""
        return dealt(seed, num_units, self.groups)[step % self.groups]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs:
    """One Gaussian release of the whole run, of what a unit adds at all its turns together.

    With the strategy C of `privacy.correlation` the run is CG + Z. A unit of group g adds u_t, of norm at most 1, to
    rows t = g, g + n, … of G, and moves CG by the square root of Σ ⟨c_s, c_t⟩⟨u_s, u_t⟩ over pairs of its turns. No
    entry of C is negative, so that is at most s = max_g ‖c_g + c_{g+n} + …‖ whatever the u are, also where they depend
    on earlier releases (Choquette-Choo et al. 2022, arXiv 2211.06530; Denisov et al. 2022, arXiv 2202.08312).

    | b, n | s |
    |---|---|
    | b ≤ n: turns share no row | √⌈T/n⌉ |
    | b = 1: independent noise | √⌈T/n⌉, as of ⌈T/n⌉ Gaussian releases |
    | b > n | more than that, for turns point the same way |

    Nothing is amplified by sampling, which costs more at small ε. Where ε is near 8 and epochs are few, bands that do
    not shorten an epoch outweigh it (docs/privacy.md).

    Attributes:
      noise_multiplier: std of the independent noise ÷ norm of what a unit releases at once.
      epoch_steps: n ≥ 1, steps of an epoch.
      bands: b, 1 to the number of steps.
      steps: T of the whole run, with which the noise ends.
    """

    noise_multiplier: float
    epoch_steps: int
    bands: int
    steps: int
    relation: ClassVar[NeighboringRelation] = NeighboringRelation.ADD_OR_REMOVE_ONE

    def __post_init__(self) -> None:
        if not 1 <= self.bands <= self.steps:
            raise PlanError(f"plan: bands={self.bands!r}; expected 1 to steps={self.steps}")

    @property
    def sampler(self) -> EpochSampler:
        """A die a unit, thrown once."""
        return EpochSampler(self.epoch_steps)

    @property
    def draw_law(self) -> DrawLaw:
        """Groups that take turns, each whole."""
        return DrawLaw(rate=1.0, groups=self.epoch_steps)

    @property
    def noise(self) -> NoiseLaw:
        """C⁻¹Z for the banded strategy C."""
        return NoiseLaw(bands=self.bands, steps=self.steps)

    def event(self, steps: int) -> Any:
        """As of `base.Mechanism`: what the first rows of CG + Z release."""
        from dp_accounting import dp_event

        moved = sensitivity(self.bands, self.steps, self.epoch_steps, min(steps, self.steps))
        return self_composed(dp_event.GaussianDpEvent(self.noise_multiplier / moved), 1)

    def observe(self, step: int, num_units: int, seed: bytes) -> tuple[int, ...]:
        """How many units' turn it was."""
        return (len(self.sampler.draw(step, num_units, seed)),)

    def violations(self, draws: Sequence[Draw], num_units: int) -> list[str]:
        """As of `base.Mechanism`: groups keep their members, share all units, and enter whole."""
        if by_turns(draws, num_units, self.draw_law):
            return []
        return [f"a step was not the turn of one of epoch_steps={self.epoch_steps} groups, whole"]


@lru_cache(maxsize=1024)
def sensitivity(bands: int, steps: int, epoch_steps: int, rows: int) -> float:
    """How far a unit of norm 1 moves the first `rows` rows of CG: max_g ‖c_g + c_{g+n} + …‖, rounded up.

    Time: `rows` · `bands`.
    """
    coefficients = strategy_coefficients(bands)
    norms = column_norms(coefficients, steps)
    largest = 0.0
    for group in range(min(epoch_steps, rows)):
        added = np.zeros(rows)
        for turn in range(group, rows, epoch_steps):
            reach = min(bands, rows - turn)
            added[turn : turn + reach] += coefficients[:reach] / norms[turn]
        largest = max(largest, float(added @ added))
    return math.sqrt(largest) * (1 + 1e-12)


__all__ = ["EpochSampler", "Epochs", "sensitivity"]
