"""Poisson sampling with a cap on the units of a step, for speed; what the cap costs is in the event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dp_train.errors import PlanError
from dp_train.privacy.correlation import INDEPENDENT, NoiseLaw
from dp_train.privacy.mechanisms.base import Draw, poisson_violations, self_composed
from dp_train.privacy.relations import NeighboringRelation
from dp_train.privacy.sampling import DrawLaw, TruncatedPoissonSampler


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncated:
    """The truncated Gaussian of Ganesh et al. 2025 (arXiv 2508.15089), for as many people as were declared.

    Attributes:
      sample_rate: q. noise_multiplier: std of the noise ÷ norm of what a unit releases at once.
      max_batch_units: most units of a step, at least the mean q · population; of more, some are left out at random.
      population: most people there can be; declared, public.
    """

    sample_rate: float
    noise_multiplier: float
    max_batch_units: int
    population: int
    relation: ClassVar[NeighboringRelation] = NeighboringRelation.ADD_OR_REMOVE_ONE
    noise: ClassVar[NoiseLaw] = INDEPENDENT

    def __post_init__(self) -> None:
        mean = self.sample_rate * self.population
        if not self.max_batch_units >= mean:
            raise PlanError(
                f"plan: max_batch_units={self.max_batch_units!r}; expected at least the mean, sample_rate × "
                f"population = {mean:g}"
            )

    @property
    def sampler(self) -> TruncatedPoissonSampler:
        """One coin a unit and step, and a choice among too many."""
        return TruncatedPoissonSampler(self.sample_rate, self.max_batch_units)

    @property
    def draw_law(self) -> DrawLaw:
        """A coin of q, up to the cap."""
        return DrawLaw(rate=self.sample_rate, cap=self.max_batch_units)

    def event(self, steps: int) -> Any:
        """As of `base.Mechanism`."""
        from dp_accounting import dp_event

        step = dp_event.TruncatedSubsampledGaussianDpEvent(
            self.population, self.sample_rate, self.max_batch_units, self.noise_multiplier
        )
        return self_composed(step, steps)

    def observe(self, step: int, num_units: int, seed: bytes) -> tuple[int, ...]:
        """How many coins came up, before some units were left out."""
        return (len(self.sampler.coins(step, num_units, seed)),)

    def violations(self, draws: Sequence[Draw], num_units: int) -> list[str]:
        """As of `base.Mechanism`: coins are Poisson, the units are those up to the cap, the people as declared."""
        coins = [draw[1] if len(draw) == 2 else -1 for draw in draws]
        found = poisson_violations(coins, num_units, self.sample_rate)
        if any(draw[0] != min(count, self.max_batch_units) for draw, count in zip(draws, coins, strict=True)):
            found.append(f"a step did not take what was drawn up to max_batch_units={self.max_batch_units}")
        if num_units > self.population:
            found.append(f"there are more units than the declared population={self.population}")
        return found


__all__ = ["Truncated"]
