"""Poisson sampling of examples that several people own, each person at most k of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dp_train.privacy.correlation import INDEPENDENT, NoiseLaw
from dp_train.privacy.mechanisms.base import Draw, poisson_violations, self_composed
from dp_train.privacy.relations import NeighboringRelation
from dp_train.privacy.sampling import DrawLaw, PoissonSampler


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiOwner:
    """How many of a person's k units enter a step is Binomial(k, q), so a release is a mixture of Gaussians.

    Fixed-graph DP (Ganesh et al. 2025, arXiv 2503.03622): what a person said is replaced by nothing, who met whom
    stays. Where q = 1 a step is one Gaussian of sensitivity k.

    Attributes:
      sample_rate: q. noise_multiplier: std of the noise ÷ norm of what one unit releases at once.
      max_contributions: k ≥ 1.
    """

    sample_rate: float
    noise_multiplier: float
    max_contributions: int
    relation: ClassVar[NeighboringRelation] = NeighboringRelation.REPLACE_SPECIAL
    noise: ClassVar[NoiseLaw] = INDEPENDENT

    @property
    def sampler(self) -> PoissonSampler:
        """One coin an example and step, whoever owns it."""
        return PoissonSampler(self.sample_rate)

    @property
    def draw_law(self) -> DrawLaw:
        """A coin of q, and nothing else."""
        return DrawLaw(rate=self.sample_rate)

    def event(self, steps: int) -> Any:
        """As of `base.Mechanism`. Probabilities that underflow to 0 are left out."""
        from dp_accounting import dp_event
        from scipy.stats import binom

        k = self.max_contributions
        if self.sample_rate == 1:
            return self_composed(dp_event.GaussianDpEvent(self.noise_multiplier / k), steps)
        weights = [float(weight) for weight in binom.pmf(range(k + 1), k, self.sample_rate)]
        kept = [(float(units), weight) for units, weight in enumerate(weights) if weight > 0]
        total = sum(weight for _, weight in kept)
        step = dp_event.MixtureOfGaussiansDpEvent(
            self.noise_multiplier, [units for units, _ in kept], [weight / total for _, weight in kept]
        )
        return self_composed(step, steps)

    def observe(self, step: int, num_units: int, seed: bytes) -> tuple[int, ...]:
        """Nothing beside the size."""
        return ()

    def violations(self, draws: Sequence[Draw], num_units: int) -> list[str]:
        """As of `base.Mechanism`: by `sampling.is_poisson`."""
        return poisson_violations([units for units, *_ in draws], num_units, self.sample_rate)


__all__ = ["MultiOwner"]
