"""Shuffled passes of small batches: how models are trained without privacy, and nothing that is accounted here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dp_train.errors import PlanError
from dp_train.privacy.correlation import INDEPENDENT, NoiseLaw
from dp_train.privacy.mechanisms.base import Draw
from dp_train.privacy.relations import NeighboringRelation
from dp_train.privacy.sampling import DrawLaw, ShuffledSampler


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffled:
    """Every unit once a pass, `batch_units` at a time, in a new order each pass. It has no event and no ε."""

    batch_units: int
    relation: ClassVar[NeighboringRelation] = NeighboringRelation.ADD_OR_REMOVE_ONE
    noise: ClassVar[NoiseLaw] = INDEPENDENT

    @property
    def sampler(self) -> ShuffledSampler:
        """A permutation a pass."""
        return ShuffledSampler(self.batch_units)

    @property
    def draw_law(self) -> DrawLaw:
        """No coin: whoever has the order knows every draw."""
        return DrawLaw(rate=1.0, cap=self.batch_units)

    def event(self, steps: int) -> Any:
        """Refuse: shuffling that is sold as Poisson sampling claims less than it spends (docs/privacy.md).

        Raises:
          PlanError: always.
        """
        raise PlanError("plan: shuffled passes have no event; expected Poisson sampling for whatever has an ε")

    def observe(self, step: int, num_units: int, seed: bytes) -> tuple[int, ...]:
        """Nothing beside the size."""
        return ()

    def violations(self, draws: Sequence[Draw], num_units: int) -> list[str]:
        """Nothing is claimed, so nothing is violated."""
        return []


__all__ = ["Shuffled"]
