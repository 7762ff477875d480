"""What every mechanism answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from dp_train.privacy.correlation import NoiseLaw
from dp_train.privacy.relations import NeighboringRelation
from dp_train.privacy.sampling import FALSE_ALARM, DrawLaw, Sampler, is_poisson

Draw = Sequence[int]
"""What a monitor keeps of one draw, private: how many units it gave, and what `Mechanism.observe` said beside it."""


class Mechanism(Protocol):
    """One way to draw units and to add noise, with its price.

    Guarantee: if a person adds at most C to the sum of each unit that is theirs, draws come from `sampler`, and noise
    is as `noise` says with std `noise_multiplier` · C, then `steps` steps are `event(steps)` under `relation`.

    Every field is public. How many people there are and the seed are arguments.
    """

    @property
    def relation(self) -> NeighboringRelation:
        """Which data sets look alike."""

    @property
    def sampler(self) -> Sampler:
        """Draws the units of a step."""

    @property
    def draw_law(self) -> DrawLaw:
        """What `sampler` draws, for checks that share no code with it."""

    @property
    def noise(self) -> NoiseLaw:
        """How the noise of a step hangs together with that of the steps before."""

    def event(self, steps: int) -> Any:
        """The `DpEvent` of the first `steps` ≥ 1 steps: all that an accountant has to know."""

    def observe(self, step: int, num_units: int, seed: bytes) -> tuple[int, ...]:
        """What `violations` has to know of a draw beside its size. As private as the draw."""

    def violations(self, draws: Sequence[Draw], num_units: int) -> list[str]:
        """Why realised draws cannot be the sampler's, or []; false with probability ≤ `sampling.FALSE_ALARM` if so.

        Args:
          draws: of steps 0, 1, 2, …; private, as is `num_units`. Reasons name public numbers alone.
        """


def poisson_violations(sizes: Sequence[int], num_units: int, sample_rate: float) -> list[str]:
    """The one reason against sizes that Poisson sampling at `sample_rate` does not give, or []."""
    if is_poisson(sizes, num_units=num_units, sample_rate=sample_rate):
        return []
    return [not_poisson(sample_rate)]


def by_turns(draws: Sequence[Draw], num_units: int, law: DrawLaw) -> bool:
    """Return whether groups keep their members and share all units, and draw as Poisson samplers.

    Args:
      draws: units of each step, and whose turn it was. num_units: private, as they are.
    """
    if any(len(draw) != 2 for draw in draws):
        return False
    groups = [members for _, members in draws[: law.groups]]
    if any(members != groups[step % law.groups] for step, (_, members) in enumerate(draws)):
        return False
    if sum(groups) > num_units or (len(groups) == law.groups and sum(groups) != num_units):
        return False
    return all(
        is_poisson(
            [units for units, _ in draws[group :: law.groups]],
            num_units=members,
            sample_rate=law.rate,
            false_alarm=FALSE_ALARM / law.groups,
        )
        for group, members in enumerate(groups)
    )


def not_poisson(sample_rate: float) -> str:
    """The reason, with the rate that the user typed."""
    return f"batch sizes are not those of Poisson sampling at sample_rate={sample_rate:g}"


def self_composed(step: Any, count: int) -> Any:
    """`count` equal steps."""
    from dp_accounting import dp_event

    return dp_event.SelfComposedDpEvent(step, count)


def sampled_gaussian_step(sample_rate: float, noise_multiplier: float) -> Any:
    """One Poisson-sampled Gaussian release."""
    from dp_accounting import dp_event

    return dp_event.PoissonSampledDpEvent(sample_rate, dp_event.GaussianDpEvent(noise_multiplier))


__all__ = [
    "Draw",
    "Mechanism",
    "by_turns",
    "not_poisson",
    "poisson_violations",
    "sampled_gaussian_step",
    "self_composed",
]
