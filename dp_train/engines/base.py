"""What every engine is: clipped sums per unit, noise once a step, gradients for the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from dp_train.engines.noise_probe import ReleasedSample
from dp_train.engines.spec import AnyEngine as AnyEngine
from dp_train.engines.spec import Clipping as Clipping
from dp_train.engines.spec import EngineName as EngineName
from dp_train.privacy.noise_check import NoiseObservation

RowLosses = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
"""(model, inputs) → (rows,) float losses. Row r's loss depends on row r alone (docs/privacy.md, What is checked)."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Whole units, cut from one step's draw; a unit is never split over two microbatches.

    `inputs` are the model's tensors, rows first. `units` (rows,) int64 says which unit of this
    microbatch each row belongs to, in 0 … `num_units` − 1. The unit's gradient is the *mean* of its rows'.
    `weights` (rows,) float32 is what each row counts in place of that mean; of runs without privacy alone.
    `drawn` says which unit of the run each of them is, where it is known; private, and of no use to an engine.
    """

    inputs: Mapping[str, Tensor]
    units: Tensor
    num_units: int
    drawn: tuple[int, ...] = ()
    weights: Tensor | None = None

    def only(self, units: Sequence[int]) -> MicroBatch:
        """Return the rows of the chosen units, in the order chosen, as a microbatch of its own; each once."""
        rows = [(self.units == unit).nonzero().flatten() for unit in units]
        chosen = torch.cat(rows) if rows else self.units[:0]
        return MicroBatch(
            inputs={name: tensor[chosen] for name, tensor in self.inputs.items()},
            units=torch.cat([torch.full_like(of, place) for place, of in enumerate(rows)]) if rows else chosen,
            num_units=len(rows),
            weights=None if self.weights is None else self.weights[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What one release really did, for the monitor to hold against the plan.

    `noise_std` is the std of the independent noise; `noise_bands` says over how many steps it was correlated.
    `units` (how many were drawn), `nonfinite_units`, `clipped_units` and `loss_sum` are private: they
    stay in the private checkpoint unless the user asks otherwise.
    `noisy_loss` is the sum of the units' losses, cut and noised as the plan says, ÷ `divisor`: a release that the
    plan's event pays for; None where the plan has no curve. `loss_noise_std` is what it was noised with.
    `noise_seen` is what became of random elements, and `released` what the optimizer has to read there; both private,
    and None without noise.
    `unit_losses` and `unit_norms` are (units,) float64, in the order in which the units were accumulated: what each
    unit was clipped by. Private; None where an engine does not say, or not in that order. Where several processes share
    a step they are of this process' units, and all else is of the whole step.
    """

    step: int
    clip_norm: float
    noise_std: float
    noise_draws: int
    divisor: float
    units: int
    nonfinite_units: int
    clipped_units: int
    loss_sum: float
    noise_bands: int = 1
    noisy_loss: float | None = None
    loss_noise_std: float = 0.0
    noise_seen: NoiseObservation | None = None
    released: ReleasedSample | None = None
    unit_losses: Tensor | None = None
    unit_norms: Tensor | None = None


class Engine(Protocol):
    """Sums clipped per-unit gradients and releases them with noise, once a step.

    Guarantee: what `release` writes to ``p.grad``, before the noise and the division by
    `expected_units`, moves by at most `clip_norm` (L2, over all trainable parameters together)
    when one unit is added or removed.
    """

    @property
    def name(self) -> AnyEngine: ...

    def accumulate(self, batch: MicroBatch) -> None:
        """Add the clipped gradients of the microbatch's units to the step's sum."""
        ...

    def release(self, step: int) -> StepRecord:
        """Noise the sum once, divide it by the public `expected_units`, write ``p.grad``, start afresh.

        An empty step is a step like any other: noise alone is written.
        """
        ...

    def detach(self) -> None:
        """Take every hook off the model; the engine cannot be used after it."""
        ...
