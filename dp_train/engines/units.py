"""What every engine does with units: weigh rows, take norms, clip, count, release."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from dp_train.engines.base import Clipping, MicroBatch, StepRecord
from dp_train.engines.noise import NoiseSource, add_in_parts
from dp_train.engines.noise_probe import NoiseWatch, released_sample
from dp_train.engines.parts import shares
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.engines.scaling import Scaling
from dp_train.errors import ModelError
from dp_train.privacy.plan import PrivacyPlan

_NORM_CHUNK = 4096
_STABILITY = 0.01  # γ of automatic clipping


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name → parameter, each tied parameter once, in the order that numbers the noise streams.

    Raises:
      ModelError: nothing can be trained.
    """
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found:
        raise ModelError("model: no trainable parameter; expected at least one with requires_grad")
    return found


def row_weights(batch: MicroBatch) -> Tensor:
    """(rows,) float32: 1 ÷ rows of the row's unit, so that a unit's gradient is the mean of its rows'."""
    counts = torch.bincount(batch.units, minlength=batch.num_units)
    return counts.to(torch.float32).reciprocal()[batch.units]


def check_losses(losses: Tensor, batch: MicroBatch) -> Tensor:
    """The losses, if there is one a row.

    Raises:
      ModelError: a mean over the batch, or one loss a token, would couple rows or miscount units.
    """
    rows = batch.units.shape[0]
    if losses.shape != (rows,):
        raise ModelError(f"row_losses: gave shape {tuple(losses.shape)}; expected one loss a row, ({rows},)")
    return losses


def sum_rows(values: Tensor, batch: MicroBatch) -> Tensor:
    """(rows, …) → (num_units, …): sum over the rows of each unit."""
    summed = values.new_zeros(batch.num_units, *values.shape[1:])
    return summed.index_add_(0, batch.units, values)


def squared_norms(gradients: Tensor) -> Tensor:
    """(units, …) float32 → (units,) float64 squared L2 norms.

    In chunks: torch's float32 norm of ten million elements came out 4e-4 too small, and a norm
    that is too small lets a unit move the sum by more than it may.
    """
    flat = gradients.reshape(gradients.shape[0], -1)
    whole = flat.shape[1] // _NORM_CHUNK * _NORM_CHUNK
    squares: Tensor = torch.linalg.vector_norm(flat[:, whole:], dim=1).double().square_()
    if whole:
        chunks = flat[:, :whole].view(flat.shape[0], -1, _NORM_CHUNK)
        squares += torch.linalg.vector_norm(chunks, dim=2).double().square_().sum(1)
    return squares


def clip_factors(norms: Tensor, clip_norm: float) -> Tensor:
    """(units,) norms → (units,) float32 factors in [0, 1] that bring each unit to norm at most `clip_norm`.

    Guarantee: factor × norm ≤ clip_norm · (1 + 1e-6). A norm of 0 gives 1; a norm that is not finite gives 0.
    """
    factors = (clip_norm / norms.double()).clamp_(max=1.0)
    return torch.where(torch.isfinite(norms), factors, 0.0).float()


def automatic_factors(norms: Tensor, clip_norm: float) -> Tensor:
    """(units,) norms → (units,) float32 factors C ÷ (‖g‖ + γ), for which factor × norm < `clip_norm`.

    A norm that is not finite gives 0.
    """
    factors = clip_norm / (norms.double() + _STABILITY)
    return torch.where(torch.isfinite(norms), factors, 0.0).float()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitClip:
    """From squared norms to the factors that bound each unit: one place for every engine.

    Guarantee: for each unit, Σ over tensors of (factor × norm)² ≤ C² up to rounding, C being the clip norm,
    or √(Σ bounds²) with bounds by tensor.

    Attributes:
      clipping: FLAT or AUTOMATIC with one bound for all tensors together, PER_LAYER with one for each.
      bounds: (1,) the clip norm, or (tensors,).
    """

    clipping: Clipping
    bounds: tuple[float, ...]

    @classmethod
    def of(cls, clipping: Clipping, clip_norm: float, tensors: int) -> UnitClip:
        """The clip that brings `tensors` trainable tensors to at most `clip_norm`."""
        bounds = (clip_norm,) if clipping is not Clipping.PER_LAYER else (clip_norm / tensors**0.5,) * tensors
        return cls(clipping=clipping, bounds=bounds)

    def whole(self, norms: Tensor) -> Tensor:
        """(units,) norms over all tensors → (units,) float32 factors; for FLAT and AUTOMATIC."""
        factors = automatic_factors if self.clipping is Clipping.AUTOMATIC else clip_factors
        return factors(norms, self.bounds[0])

    def tensor(self, index: int, norms: Tensor, losses: Tensor | None) -> Tensor:
        """(units,) norms and (units,) losses → (units,) float32 factors of tensor `index` alone; for PER_LAYER."""
        return clip_factors(norms if losses is None else norms + 0.0 * losses, self.bounds[index])

    def norms(self, squares: Mapping[int, Tensor], losses: Tensor | None) -> Tensor:
        """(units,) float64 norms over all tensors, not finite where the loss is not."""
        of_loss = [] if losses is None else [0.0 * losses]
        return torch.stack([*squares.values(), *of_loss]).sum(0).sqrt_()

    def factors(self, squares: Mapping[int, Tensor], losses: Tensor | None) -> tuple[dict[int, Tensor], Tensor]:
        """What each tensor's gradients of the units are multiplied by, and the units' norms.

        Args:
          squares: tensor index → (units,) float64 squared norms; tensors without a gradient are left out.
          losses: (units,) float64, where they are not finite the unit counts as zero, whatever its gradient. None,
            where only gradients are at hand; `squares` then hold one at least.

        Returns:
          tensor index → (units,) float32, 0 for what counts as zero; (units,) float64, not finite there.
        """
        norms = self.norms(squares, losses)
        if self.clipping is not Clipping.PER_LAYER:
            return dict.fromkeys(squares, self.whole(norms)), norms
        return {index: self.tensor(index, own.sqrt(), losses) for index, own in squares.items()}, norms


@dataclass(slots=True)
class Tally:
    """What one step's microbatches held. Private: it counts people and adds up their losses.

    `cut_loss_sum` adds up losses cut to [0, `loss_bound`], so that a unit moves it by at most that.
    `of_units` holds losses and norms as they were counted; `in_order` says whether that is the units' own order.
    """

    loss_bound: float = 0.0
    units: int = 0
    nonfinite_units: int = 0
    clipped_units: int = 0
    loss_sum: float = 0.0
    cut_loss_sum: float = 0.0
    of_units: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    in_order: bool = True

    def count(self, unit_losses: Tensor, norms: Tensor, clip_norm: float) -> None:
        """Take up one microbatch: (units,) mean losses and (units,) norms, not finite for units that count as zero."""
        finite = torch.isfinite(norms)
        self.of_units.append((unit_losses.detach().double(), norms.detach().double()))
        self.units += norms.shape[0]
        self.nonfinite_units += int((~finite).sum())
        self.clipped_units += int((finite & (norms > clip_norm)).sum())
        losses = unit_losses.detach().double()[finite]
        self.loss_sum += float(losses.sum())
        self.cut_loss_sum += float(losses.nan_to_num(0.0).clamp(0.0, self.loss_bound).sum())

    def over(self, ranks: Ranks) -> Tally:
        """Add up the numbers of all processes; what is known of each unit stays where it is."""
        units, nonfinite, clipped, loss_sum, cut_loss_sum = ranks.sums(
            (self.units, self.nonfinite_units, self.clipped_units, self.loss_sum, self.cut_loss_sum)
        )
        return replace(
            self,
            units=int(units),
            nonfinite_units=int(nonfinite),
            clipped_units=int(clipped),
            loss_sum=loss_sum,
            cut_loss_sum=cut_loss_sum,
        )

    def each(self) -> tuple[Tensor | None, Tensor | None]:
        """(units,) float64 losses and norms in the order of the units; None where the order is not known."""
        if not self.in_order or not self.of_units:
            return None, None
        losses, norms = zip(*self.of_units, strict=True)
        return torch.cat(losses), torch.cat(norms)


class StepSum:
    """The float32 sum of one step's clipped unit gradients, and its one release.

    With `scaling` the sum is of stretched gradients, and what is released is shrunk back. With several `ranks` the sum
    is over the units of all of them: each adds up a share of the tensors' elements, makes the noise of that share, and
    gets the others'. Every one of them then holds the same release, to the last bit.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        plan: PrivacyPlan,
        noise: NoiseSource | None,
        scaling: Scaling | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.parameters = tuple(parameters)
        self._ranks = ranks
        self.tally = Tally(loss_bound=plan.loss_bound)
        self._plan = plan
        self._noise = noise
        self._scaling = scaling
        self._sums: list[Tensor | None] = [None] * len(self.parameters)
        self._watch = NoiseWatch()

    def add(self, index: int, gradient: Tensor) -> None:
        """Add a clipped gradient of parameter `index`; a contiguous float32 one may be kept, not copied."""
        held = self._sums[index]
        if held is not None:
            held.add_(gradient)
        else:
            self._sums[index] = gradient.detach().to(torch.float32).contiguous()

    def release(self, step: int) -> StepRecord:
        """Noise each sum once, divide by the public `expected_units`, write ``p.grad``, start afresh."""
        noise_std = 0.0 if self._noise is None else self._plan.calibrated_noise_multiplier * self._plan.clip_norm
        totals = [
            torch.zeros_like(parameter, dtype=torch.float32, memory_format=torch.contiguous_format)
            if held is None
            else held
            for parameter, held in zip(self.parameters, self._sums, strict=True)
        ]
        ranks, scales = self._ranks, self._scaling.scales if self._scaling is not None else {}
        cut = shares([total.numel() for total in totals], ranks.size)
        ranks.sum_parts(totals, cut)
        if self._noise is None or noise_std == 0:
            look = None
        else:
            look = self._watch.before(totals, ranks, cut[ranks.rank])
            add_in_parts(self._noise, totals, cut[ranks.rank], noise_std, step=step)
        ranks.gather_parts(totals, cut)
        seen = released = None
        if look is not None:
            seen = self._watch.after(totals, look, noise_std)
            divisor = float(self._plan.expected_units)
            released = released_sample(self.parameters, totals, look, scales=scales, divisor=divisor)
        for parameter, total in zip(self.parameters, totals, strict=True):
            if parameter in scales:
                scales[parameter].shrink(total)
            parameter.grad = total.div_(self._plan.expected_units).to(parameter.dtype)
        unit_losses, unit_norms = self.tally.each()
        tally, self.tally = self.tally.over(ranks), Tally(loss_bound=self._plan.loss_bound)
        loss_noise_std = 0.0 if self._noise is None else self._plan.loss_noise_std
        self._sums = [None] * len(self.parameters)
        return StepRecord(
            step=step,
            clip_norm=self._plan.clip_norm,
            noise_std=noise_std,
            noise_draws=1 if noise_std > 0 else 0,
            divisor=float(self._plan.expected_units),
            units=tally.units,
            nonfinite_units=tally.nonfinite_units,
            clipped_units=tally.clipped_units,
            loss_sum=tally.loss_sum,
            noise_bands=getattr(self._noise, "bands", 1),
            noisy_loss=self._noisy_loss(tally, loss_noise_std, step),
            loss_noise_std=loss_noise_std,
            noise_seen=seen,
            released=released,
            unit_losses=unit_losses,
            unit_norms=unit_norms,
        )

    def _noisy_loss(self, tally: Tally, std: float, step: int) -> float | None:
        """The training loss of a step as the plan releases it; None where it releases none."""
        if self._noise is None or std == 0:
            return None
        total = torch.tensor([tally.cut_loss_sum], dtype=torch.float32)
        if self._ranks.first:  # a stream of its own, after the tensors'
            self._noise.add(total, std, step=step, index=len(self.parameters))
        (noised,) = struct.unpack("<d", self._ranks.from_first(struct.pack("<d", float(total))))
        return float(noised) / self._plan.expected_units
