"""Poisson-sampled Gaussian: every unit throws a coin each step, and every person owns one unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dp_train.privacy.correlation import INDEPENDENT, NoiseLaw
from dp_train.privacy.mechanisms.base import Draw, poisson_violations, sampled_gaussian_step, self_composed
from dp_train.privacy.relations import NeighboringRelation
from dp_train.privacy.sampling import DrawLaw, PoissonSampler


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson:
    """`steps` Poisson-sampled Gaussian releases (Abadi et al. 2016, arXiv 1607.00133).

    Attributes:
      sample_rate: q. noise_multiplier: std of the noise ÷ norm of what a unit releases at once.
    """

    sample_rate: float
    noise_multiplier: float
    relation: ClassVar[NeighboringRelation] = NeighboringRelation.ADD_OR_REMOVE_ONE
    noise: ClassVar[NoiseLaw] = INDEPENDENT

    @property
    def sampler(self) -> PoissonSampler:
        """One coin a unit and step."""
        return PoissonSampler(self.sample_rate)

    @property
    def draw_law(self) -> DrawLaw:
        """A coin of q, and nothing else."""
        return DrawLaw(rate=self.sample_rate)

    def event(self, steps: int) -> Any:
        """As of `base.Mechanism`."""
        return self_composed(sampled_gaussian_step(self.sample_rate, self.noise_multiplier), steps)

    def observe(self, step: int, num_units: int, seed: bytes) -> tuple[int, ...]:
        """Nothing beside the size."""
        return ()

    def violations(self, draws: Sequence[Draw], num_units: int) -> list[str]:
        """As of `base.Mechanism`: by `sampling.is_poisson`."""
        return poisson_violations([units for units, *_ in draws], num_units, self.sample_rate)


__all__ = ["Poisson"]
