"""Before a private run draws anything: does its engine do to this very model what plain autograd does?

1. in training mode and before any clip, each unit's loss and gradient are those that it has alone, whoever else is in
   the microbatch, and no forward pass changes the model (`engines.company_check`);
2. two SGD steps by autograd alone, with nothing attached, say how the weights have to move;
3. one step of the engine, clipped and scaled as configured, is compared with the units' own gradients, clipped by norms
   in float64 that share no code with any engine;
4. two of its steps without noise, under a clip norm that nothing reaches, have to move the weights like 2;
5. 1 and 3 once more for many units, outliers among them, in companies of several sizes (`engines.crowd_check`);
6. all is as it was found, bit for bit: weights, gradients, buffers, hooks, modes, random states.

Rows are public and nothing is released, so it spends no ε. Opacus' issue 820, silently corrupted LoRA weights, is
what it is there for. Dropout is off meanwhile, as autograd and an engine would draw other masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dp_train.engines.as_found import as_found, noted_precision, put, woken
from dp_train.engines.base import AnyEngine, Clipping, Engine, MicroBatch, RowLosses, StepRecord
from dp_train.engines.build import build_engine
from dp_train.engines.company_check import company_check, units_apart
from dp_train.engines.crowd_check import Crowd, crowd_check
from dp_train.engines.noise import SeededNoise
from dp_train.engines.reference import Reference, Values, norm_of
from dp_train.engines.scaling import Scaling
from dp_train.engines.units import check_losses, row_weights, trainable_parameters
from dp_train.errors import ModelError
from dp_train.privacy.plan import PrivacyPlan

_AGREEMENT = 1e-3  # between two float32 ways to one gradient; a wrong one is off by far more
_ROUNDING = 8.0
_SECOND_STEP = 4.0  # what the weights were rounded by comes back in the gradients of the next step
_LESS_LOSS = 0.02  # share of the loss that the first step takes away: enough to see that the second saw new weights
_HEAVY = 3.0


def self_check(
    name: AnyEngine,
    *,
    model: nn.Module,
    row_losses: RowLosses,
    plan: PrivacyPlan,
    batches: Sequence[MicroBatch],
    clipping: Clipping = Clipping.FLAT,
    scaling: Scaling | None = None,
    alone: Sequence[Sequence[MicroBatch]] = (),
    crowd: Crowd | None = None,
) -> None:
    """Try the engine of that name on the model that will train.

    Guarantee: the model is afterwards as it was, bit for bit, also where this raises.

    Args:
      model: with what is trainable already decided. batches: of a few *public* rows, one step together.
      plan, clipping, scaling: as the run has them; no noise is drawn.
      alone: for each unit of `batches`, in any order, the microbatches that the run would make of it alone: padded to
        its own length. Cut out of `batches` if not given.
      crowd: many more public units, outliers among them, in companies of several sizes.

    Raises:
      ModelError: rows depend on each other, or a forward pass changes the model; engine and autograd disagree, by how
        much and about which parameter; a trainable parameter that the loss never reaches; something of the model was
        left changed.
      PlanError: engine and plan do not go together.
    """
    check = _Check(name, model, row_losses, plan.replace(noise_multiplier=0.0, bands=1), batches, scaling)
    with as_found(name, model), woken(check.parameters):
        start = {key: parameter.detach().clone() for key, parameter in check.parameters.items()}
        plain = check.by_autograd(start)
        put(check.parameters, start)
        check.each_alone(alone)
        check.against_units_alone(clipping, plain.gradients)
        check.against_plain_sgd(start, plain)
        if crowd is not None:
            put(check.parameters, start)
            check.in_crowds(crowd, clipping)


class _Plain:
    """What autograd and SGD alone gave: gradients of the first step, weights moved by two, the loss of each."""

    def __init__(self, gradients: Values, moved: Values, losses: Sequence[float], rate: float) -> None:
        self.gradients = gradients
        self.moved = moved
        self.losses = losses
        self.rate = rate


class _Check:
    """One model, one engine, and the rows that both see."""

    def __init__(
        self,
        name: AnyEngine,
        model: nn.Module,
        row_losses: RowLosses,
        plan: PrivacyPlan,
        batches: Sequence[MicroBatch],
        scaling: Scaling | None,
    ) -> None:
        self.parameters = trainable_parameters(model)
        self._name = name
        self._model = model
        self._row_losses = row_losses
        self._plan = plan
        self._batches = batches
        self._scaling = scaling
        self._reference = Reference(model, self.parameters, scaling)
        self._rounding = _ROUNDING * torch.finfo(torch.float32).eps
        self._resolution = {key: torch.finfo(parameter.dtype).eps for key, parameter in self.parameters.items()}

    def by_autograd(self, start: Values) -> _Plain:
        """Two steps with nothing attached to the model."""
        with noted_precision() as coarsest:
            first, gradients = self._autograd()
        self._rounding = _ROUNDING * max(coarsest)
        norm = norm_of(gradients.values())
        if not math.isfinite(first + norm) or norm == 0:
            raise ModelError(
                f"self-check: the loss of public rows is {first:.3g} with a gradient of norm {norm:.3g}; expected "
                "finite numbers other than 0; load sound weights, or train in float32 or bfloat16"
            )
        divisor = self._plan.expected_units
        rate = divisor * _LESS_LOSS * abs(first) / norm**2
        losses, step = [first], gradients
        optimizer = self._sgd(rate)
        for last in (False, True):
            for key, parameter in self.parameters.items():
                parameter.grad = (step[key] / divisor).to(parameter.dtype)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if not last:
                second, step = self._autograd()
                losses.append(second)
        return _Plain(gradients, _moved(self.parameters, start), losses, rate)

    def each_alone(self, alone: Sequence[Sequence[MicroBatch]]) -> None:
        """Losses and gradients of each unit, in company and alone."""
        company_check(
            self._model,
            self._row_losses,
            self._batches,
            alone or [[cut] for batch in self._batches for cut in units_apart(batch)],
            parameters=self.parameters,
            rounding=max(self._rounding, _AGREEMENT),
        )

    def against_units_alone(self, clipping: Clipping, gradients: Values) -> None:
        """One clipped step. The clip norm is the run's, or so much smaller that every unit is clipped.

        The first unit's losses count more, so that a clip by another norm than a unit's own is seen.
        """
        losses = _uneven(self._row_losses, self._batches[0])
        units = [self._reference.take(cut, losses) for batch in self._batches for cut in units_apart(batch)]
        least = min(unit.norm for unit in units)
        plan = self._plan.replace(clip_norm=min(self._plan.clip_norm, 0.5 * least or self._plan.clip_norm))
        clipped = [self._reference.clipped(unit, plan.clip_norm, clipping) for unit in units]
        expected = {
            key: sum((unit[key] for unit in clipped), torch.zeros(())) / plan.expected_units for key in self.parameters
        }
        found = self._step(self._name, plan, clipping, losses)
        whole, all_of_it = norm_of(expected.values()), norm_of(gradients.values())
        apart = {}
        for key, gradient in expected.items():
            # Rounding errors alone, as of a bias that a softmax cancels: clipped by themselves they are anything.
            if norm_of([gradients[key]]) > self._rounding * all_of_it:
                off, size = norm_of([found[key].double() - gradient]), norm_of([gradient])
                if size > 0 and not bool(found[key].any()):
                    raise ModelError(
                        f"self-check: engine {self._name.value} gives {key} no gradient; the units alone have one "
                        f"of norm {size:.2g}; use engine naive, or mend what keeps its layer from being seen"
                    )
                apart[key] = off, max(_AGREEMENT, self._rounding) * size + self._rounding * whole
        self._refuse_the_worst(apart, "its clipped gradient is", "that of the units alone")

    def in_crowds(self, crowd: Crowd, clipping: Clipping) -> None:
        """Many units, each alone and in companies of several sizes, and one clipped step of the largest."""
        crowd_check(
            self._reference,
            self._row_losses,
            crowd,
            clipping=clipping,
            clip_norm=self._plan.clip_norm,
            rounding=self._rounding,
            step=self._crowd_step,
            engine=self._name.value,
        )

    def _crowd_step(self, batches: Sequence[MicroBatch], clip_norm: float, clipping: Clipping) -> Values:
        """The engine's sum of clipped gradients."""
        plan = self._plan.replace(clip_norm=clip_norm)
        released = self._step(self._name, plan, clipping, self._row_losses, batches)
        return {key: gradient.double() * plan.expected_units for key, gradient in released.items()}

    def against_plain_sgd(self, start: Values, plain: _Plain) -> None:
        """Two steps under a clip norm that nothing reaches. The second shows whether the first moved what is read."""
        norm = sum(norm_of([gradient]) for gradient in plain.gradients.values())
        plan = self._plan.replace(clip_norm=1e6 * (1 + norm))
        optimizer = self._sgd(plain.rate)
        losses = []
        with self._attached(self._name, plan, optimizer) as engine:
            for step in range(2):
                losses.append(self._accumulate(engine, step).loss_sum)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        moved = _moved(self.parameters, start)
        whole, rounding = norm_of(plain.moved.values()), _SECOND_STEP * self._rounding
        apart = {}
        for key, expected in plain.moved.items():
            off, size = norm_of([moved[key] - expected]), norm_of([expected])
            unseen = 4 * self._resolution[key] * norm_of([start[key]])  # the weight's own type rounds that much away
            apart[key] = off, max(_AGREEMENT, rounding) * size + rounding * whole + unseen
        self._refuse_the_worst(apart, "after two steps without noise it is", "where plain SGD takes it")
        fell = abs(plain.losses[0] - plain.losses[1])
        of_step = {
            f"step {step}": (abs(found - loss), 0.1 * fell + rounding * abs(loss))
            for step, (found, loss) in enumerate(zip(losses, plain.losses, strict=True), start=1)
        }
        self._refuse_the_worst(of_step, "its loss is", "that of plain SGD")

    def _refuse_the_worst(self, apart: Mapping[str, tuple[float, float]], what: str, reference: str) -> None:
        """Raise for the worst of (distance, allowed) that exceeds what is allowed; NaN counts as exceeding."""
        beyond = {key: (off, allowed) for key, (off, allowed) in apart.items() if not off <= allowed}
        if beyond:
            key, (off, allowed) = max(beyond.items(), key=lambda item: item[1][0] / max(item[1][1], 1e-30))
            raise ModelError(
                f"self-check: engine {self._name.value}, {key}: {what} {off:.2g} away from {reference}; expected at "
                f"most {allowed:.2g}; use engine naive, or freeze what the engine does not cover"
            )

    def _autograd(self) -> tuple[float, dict[str, Tensor]]:
        """Sum over units of their mean losses, and its gradient."""
        total = 0.0
        for batch in self._batches:
            loss = (check_losses(self._row_losses(self._model, batch.inputs), batch) * row_weights(batch)).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        found = {}
        for key, parameter in self.parameters.items():
            if parameter.grad is None:
                raise ModelError(
                    f"self-check: {key} is trainable and no loss depends on it: it would take noise and learn nothing; "
                    "freeze it (requires_grad_(False)), or mend the forward pass that leaves it out"
                )
            found[key], parameter.grad = parameter.grad, None
        return total, found

    def _step(
        self,
        name: AnyEngine,
        plan: PrivacyPlan,
        clipping: Clipping,
        losses: RowLosses,
        batches: Sequence[MicroBatch] | None = None,
    ) -> Values:
        with self._attached(name, plan, self._sgd(0.0), clipping, losses) as engine:
            self._accumulate(engine, 0, batches)
            released = {key: parameter.grad for key, parameter in self.parameters.items()}
        for key, parameter in self.parameters.items():
            parameter.grad = None
            if released[key] is None:
                raise ModelError(
                    f"self-check: engine {name.value} releases no gradient of {key}; expected one of every trainable "
                    "parameter; use engine naive"
                )
        return {key: gradient for key, gradient in released.items() if gradient is not None}

    @contextmanager
    def _attached(
        self,
        name: AnyEngine,
        plan: PrivacyPlan,
        optimizer: torch.optim.Optimizer,
        clipping: Clipping = Clipping.FLAT,
        losses: RowLosses | None = None,
    ) -> Iterator[Engine]:
        engine = build_engine(
            name,
            model=self._model,
            row_losses=losses or self._row_losses,
            plan=plan,
            noise=SeededNoise(bytes(16)),  # none is drawn: σ is 0
            optimizer=optimizer,
            clipping=clipping,
            scaling=self._scaling,
        )
        try:
            yield engine
        finally:
            engine.detach()

    def _accumulate(self, engine: Engine, step: int, batches: Sequence[MicroBatch] | None = None) -> StepRecord:
        for batch in self._batches if batches is None else batches:
            engine.accumulate(batch)
        return engine.release(step)

    def _sgd(self, rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters.values(), lr=rate)


def _moved(parameters: Mapping[str, nn.Parameter], start: Values) -> dict[str, Tensor]:
    return {key: parameter.detach().float() - start[key].float() for key, parameter in parameters.items()}


def _uneven(row_losses: RowLosses, batch: MicroBatch) -> RowLosses:
    """The losses, those of the first unit's rows three times as large: known by what is in them, wherever they lie."""
    heavy = _fingerprints(batch.inputs)[batch.units == 0]

    def losses(model: nn.Module, inputs: Values) -> Tensor:
        found = row_losses(model, inputs)
        return torch.where(torch.isin(_fingerprints(inputs), heavy), _HEAVY * found, found)

    return losses


def _fingerprints(inputs: Values) -> Tensor:
    """(rows,) int64: of the whole numbers in each row, such as tokens."""
    found = torch.zeros(
        next(iter(inputs.values())).shape[0], dtype=torch.int64, device=next(iter(inputs.values())).device
    )
    for name in sorted(inputs):
        if not inputs[name].is_floating_point():
            flat = inputs[name].reshape(len(found), -1).long()
            found = 31 * found + (flat * torch.arange(1, flat.shape[1] + 1, device=flat.device)).sum(1)
    return found
