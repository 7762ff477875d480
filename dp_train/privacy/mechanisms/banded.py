"""Noise that is correlated over b steps, and groups of units that take turns so that it costs no more for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dp_train.errors import PlanError
from dp_train.privacy.correlation import NoiseLaw
from dp_train.privacy.mechanisms.base import Draw, by_turns, not_poisson, sampled_gaussian_step, self_composed
from dp_train.privacy.relations import NeighboringRelation
from dp_train.privacy.sampling import CyclicPoissonSampler, DrawLaw


@dataclass(frozen=True, slots=True, kw_only=True)
class Banded:
    """⌈T/b⌉ Gaussian releases at rate b·q (Choquette-Choo et al. 2023, arXiv 2306.08153); see `privacy.correlation`.

    Attributes:
      sample_rate: q; a step expects q of all units, b·q of the group whose turn it is.
      noise_multiplier: std of the independent noise ÷ norm of what a unit releases at once.
      bands: b, 1 to the number of steps, with b·q ≤ 1.
      steps: T of the whole run, with which the noise ends.
    """

    sample_rate: float
    noise_multiplier: float
    bands: int
    steps: int
    relation: ClassVar[NeighboringRelation] = NeighboringRelation.ADD_OR_REMOVE_ONE

    def __post_init__(self) -> None:
        if not 1 <= self.bands <= self.steps:
            raise PlanError(f"plan: bands={self.bands!r}; expected 1 to steps={self.steps}")
        if not self.bands * self.sample_rate <= 1:
            raise PlanError(
                f"plan: bands={self.bands!r}; expected at most 1 ÷ sample_rate={1 / self.sample_rate:.4g}: bands × "
                "sample_rate is a group's rate"
            )

    @property
    def sampler(self) -> CyclicPoissonSampler:
        """One coin a unit and turn."""
        return CyclicPoissonSampler(self.sample_rate, self.bands)

    @property
    def draw_law(self) -> DrawLaw:
        """Groups that take turns, each sampled at b·q."""
        return DrawLaw(rate=min(1.0, self.bands * self.sample_rate), groups=self.bands)

    @property
    def noise(self) -> NoiseLaw:
        """C⁻¹Z for the banded strategy C."""
        return NoiseLaw(bands=self.bands, steps=self.steps)

    def rounds(self, steps: int) -> int:
        """⌈steps ÷ b⌉, the Gaussian releases that `steps` steps amount to."""
        return -(-steps // self.bands)

    def event(self, steps: int) -> Any:
        """As of `base.Mechanism`."""
        return self_composed(sampled_gaussian_step(self.draw_law.rate, self.noise_multiplier), self.rounds(steps))

    def observe(self, step: int, num_units: int, seed: bytes) -> tuple[int, ...]:
        """How many units' turn it was."""
        return (len(self.sampler.members(step, num_units, seed)),)

    def violations(self, draws: Sequence[Draw], num_units: int) -> list[str]:
        """As of `base.Mechanism`: groups keep their members and share all units, and draw as Poisson samplers."""
        return [] if by_turns(draws, num_units, self.draw_law) else [not_poisson(self.sample_rate)]


__all__ = ["Banded"]
