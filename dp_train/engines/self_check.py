"""Before a private run draws anything: does its engine do to this very model what plain autograd does?

1. two SGD steps by autograd alone, with nothing attached, say how the weights have to move;
2. one step of the engine, clipped and scaled as configured, is held against the loop over units (`naive`);
3. two of its steps without noise, under a clip norm that nothing reaches, have to move the weights like 1;
4. all is as it was found, bit for bit: weights, gradients, buffers, hooks, modes, random states.

Rows are public and nothing is released, so it spends no ε. Opacus' issue 820, silently corrupted LoRA weights, is
what it is there for. Dropout is off meanwhile, as autograd and an engine would draw other masks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dp_train.engines.base import AnyEngine, Clipping, Engine, EngineName, MicroBatch, RowLosses, StepRecord
from dp_train.engines.build import build_engine
from dp_train.engines.noise import SeededNoise
from dp_train.engines.scaling import Scaling
from dp_train.engines.units import check_losses, row_weights, trainable_parameters
from dp_train.errors import ModelError
from dp_train.privacy.plan import PrivacyPlan

_AGREEMENT = 1e-3  # between two float32 ways to one gradient; a wrong one is off by far more
_ROUNDING = 8.0
_SECOND_STEP = 4.0  # what the weights were rounded by comes back in the gradients of the next step
_TF32 = 2.0**-10
_LESS_LOSS = 0.02  # share of the loss that the first step takes away: enough to see that the second saw new weights
_WAKE = 0.02  # what stands in for zeros, see `_woken`
_TRIES = 12

Values = Mapping[str, Tensor]


def self_check(
    name: AnyEngine,
    *,
    model: nn.Module,
    row_losses: RowLosses,
    plan: PrivacyPlan,
    batches: Sequence[MicroBatch],
    clipping: Clipping = Clipping.FLAT,
    scaling: Scaling | None = None,
) -> None:
    """Try the engine of that name on the model that will train.

    Guarantee: the model is afterwards as it was, bit for bit, also where this raises.

    Args:
      model: with what is trainable already decided. batches: of a few *public* rows, one step together.
      plan, clipping, scaling: as the run has them; no noise is drawn.

    Raises:
      ModelError: engine and autograd disagree, by how much and about which parameter; a trainable parameter that the
        loss never reaches; something of the model was left changed.
      PlanError: engine and plan do not go together.
    """
    check = _Check(name, model, row_losses, plan.replace(noise_multiplier=0.0, bands=1), batches, scaling)
    with _as_found(name, model), _woken(check.parameters):
        start = {key: parameter.detach().clone() for key, parameter in check.parameters.items()}
        plain = check.by_autograd(start)
        _put(check.parameters, start)
        if name is not EngineName.NAIVE:
            check.against_the_loop(clipping, plain.gradients)
        check.against_plain_sgd(start, plain)


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
        self._rounding = _ROUNDING * torch.finfo(torch.float32).eps
        self._resolution = {key: torch.finfo(parameter.dtype).eps for key, parameter in self.parameters.items()}

    def by_autograd(self, start: Values) -> _Plain:
        """Two steps with nothing attached to the model."""
        with _noted_precision() as coarsest:
            first, gradients = self._autograd()
        self._rounding = _ROUNDING * max(coarsest)
        norm = _norm(gradients.values())
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

    def against_the_loop(self, clipping: Clipping, gradients: Values) -> None:
        """One clipped step. The clip norm is the run's, or so much smaller that every unit is clipped."""
        plan = self._plan.replace(clip_norm=min(self._plan.clip_norm, 0.5 * _norm(gradients.values())))
        for _ in range(_TRIES):
            expected, record = self._step(EngineName.NAIVE, plan, clipping)
            if record.clipped_units == record.units:
                break
            plan = plan.replace(clip_norm=plan.clip_norm / 4)
        found, _ = self._step(self._name, plan, clipping)
        whole, all_of_it = _norm(expected.values()), _norm(gradients.values())
        apart = {}
        for key, gradient in expected.items():
            # Rounding errors alone, as of a bias that a softmax cancels: clipped by themselves they are anything.
            if _norm([gradients[key]]) > self._rounding * all_of_it:
                off, size = _norm([found[key].float() - gradient.float()]), _norm([gradient])
                if size > 0 and not bool(found[key].any()):
                    raise ModelError(
                        f"self-check: engine {self._name.value} gives {key} no gradient; the loop over units finds one "
                        f"of norm {size:.2g}; use engine naive, or mend what keeps its layer from being seen"
                    )
                apart[key] = off, max(_AGREEMENT, self._rounding) * size + self._rounding * whole
        self._refuse_the_worst(apart, "its clipped gradient is", "the loop over units")

    def against_plain_sgd(self, start: Values, plain: _Plain) -> None:
        """Two steps under a clip norm that nothing reaches. The second shows whether the first moved what is read."""
        norm = sum(_norm([gradient]) for gradient in plain.gradients.values())
        plan = self._plan.replace(clip_norm=1e6 * (1 + norm))
        optimizer = self._sgd(plain.rate)
        losses = []
        with self._attached(self._name, plan, optimizer) as engine:
            for step in range(2):
                losses.append(self._accumulate(engine, step).loss_sum)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        moved = _moved(self.parameters, start)
        whole, rounding = _norm(plain.moved.values()), _SECOND_STEP * self._rounding
        apart = {}
        for key, expected in plain.moved.items():
            off, size = _norm([moved[key] - expected]), _norm([expected])
            unseen = 4 * self._resolution[key] * _norm([start[key]])  # the weight's own type rounds that much away
            apart[key] = off, max(_AGREEMENT, rounding) * size + rounding * whole + unseen
        self._refuse_the_worst(apart, "after two steps without noise it is", "where plain SGD takes it")
        fell = abs(plain.losses[0] - plain.losses[1])
        of_step = {
            f"step {step}": (abs(found - loss), 0.1 * fell + rounding * abs(loss))
            for step, (found, loss) in enumerate(zip(losses, plain.losses, strict=True), start=1)
        }
        self._refuse_the_worst(of_step, "its loss is", "that of plain SGD")

    def _refuse_the_worst(self, apart: Mapping[str, tuple[float, float]], what: str, reference: str) -> None:
        """Nothing, if every (distance, allowed) is kept to; also a distance that is not a number is not."""
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

    def _step(self, name: AnyEngine, plan: PrivacyPlan, clipping: Clipping) -> tuple[Values, StepRecord]:
        with self._attached(name, plan, self._sgd(0.0), clipping) as engine:
            record = self._accumulate(engine, 0)
            released = {key: parameter.grad for key, parameter in self.parameters.items()}
        for key, parameter in self.parameters.items():
            parameter.grad = None
            if released[key] is None:
                raise ModelError(
                    f"self-check: engine {name.value} releases no gradient of {key}; expected one of every trainable "
                    "parameter; use engine naive"
                )
        return {key: gradient for key, gradient in released.items() if gradient is not None}, record

    @contextmanager
    def _attached(
        self, name: AnyEngine, plan: PrivacyPlan, optimizer: torch.optim.Optimizer, clipping: Clipping = Clipping.FLAT
    ) -> Iterator[Engine]:
        engine = build_engine(
            name,
            model=self._model,
            row_losses=self._row_losses,
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

    def _accumulate(self, engine: Engine, step: int) -> StepRecord:
        for batch in self._batches:
            engine.accumulate(batch)
        return engine.release(step)

    def _sgd(self, rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters.values(), lr=rate)


@contextmanager
def _noted_precision() -> Iterator[list[float]]:
    """Steps between numbers of the types that layers compute in meanwhile, under autocast too."""
    found = [torch.finfo(torch.float32).eps]
    if torch.backends.cuda.matmul.allow_tf32 and torch.cuda.is_available():
        found.append(_TF32)

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            found.append(torch.finfo(output.dtype).eps)

    handle = nn.modules.module.register_module_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def _woken(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Tensors that are all zeros get small values: LoRA's B begins so, and hides A's gradient as long as it is 0.

    What the parameters hold on entry is put back.
    """
    held = {key: parameter.detach().clone() for key, parameter in parameters.items()}
    try:
        for number, parameter in enumerate(parameters.values()):
            if not bool(parameter.detach().any()):
                random = torch.Generator().manual_seed(number)
                values = _WAKE * torch.randn(parameter.shape, generator=random)
                with torch.no_grad():
                    parameter.copy_(values)
        yield
    finally:
        _put(parameters, held)


@contextmanager
def _as_found(name: AnyEngine, model: nn.Module) -> Iterator[None]:
    """In evaluation mode inside; afterwards as it was, and if the engine left something changed that is told.

    Trainable values are looked after by `_woken`.

    Raises:
      ModelError: a layer has other attributes, hooks or parameters, or a frozen tensor other values.
    """
    layers = [(path or type(model).__name__, module, _Attributes(module)) for path, module in model.named_modules()]
    parameters = dict(model.named_parameters())
    tensors = [(key, parameter, _Attributes(parameter), parameter.grad) for key, parameter in parameters.items()]
    frozen = {key: _digest(parameter) for key, parameter in parameters.items() if not parameter.requires_grad}
    buffers = [(key, buffer, buffer.clone()) for key, buffer in model.named_buffers()]
    devices = {tensor.device for tensor in model.parameters() if tensor.device.type == "cuda"}
    left: list[str] = []
    with torch.random.fork_rng(list(devices)):
        try:
            model.eval()
            for parameter in parameters.values():
                parameter.grad = None
            yield
        finally:
            left += [f"layer {path}" for path, _, attributes in layers if attributes.put_back()]
            for key, parameter, attributes, gradient in tensors:
                left += [key] if attributes.put_back() else []
                parameter.grad = gradient
            left += [key for key, digest in frozen.items() if _digest(parameters[key]) != digest]
            for key, buffer, values in buffers:
                if not torch.equal(buffer, values):
                    left.append(key)
                    buffer.copy_(values)
    if left:
        raise ModelError(
            f"self-check: engine {name.value} leaves {left[0]} changed ({len(left)} such); expected the model as it "
            "was found; use engine naive"
        )


class _Attributes:
    """What hangs on a layer or a parameter, hooks and tensors by identity."""

    def __init__(self, owner: nn.Module | nn.Parameter) -> None:
        self._values: dict[str, Any] = vars(owner)
        self._before = dict(self._values)
        self._inner = {key: dict(value) for key, value in self._before.items() if isinstance(value, dict)}

    def put_back(self) -> bool:
        """Restore all of it; whether something was otherwise, but for the mode that `_as_found` set."""
        changed = not _same(self._values, self._before, but="training")
        for key, inner in self._inner.items():
            held: dict[Any, Any] = self._before[key]
            if not _same(held, inner):
                changed = True
                held.clear()
                held.update(inner)
        self._values.clear()
        self._values.update(self._before)
        return changed


def _same(one: Mapping[Any, Any], other: Mapping[Any, Any], *, but: str | None = None) -> bool:
    return one.keys() == other.keys() and all(value is other[key] for key, value in one.items() if key != but)


def _digest(tensor: Tensor) -> bytes:
    """Of the very bits, and not a copy of them: what is frozen is most of a large model."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu()
    return hashlib.sha256(flat.numpy().data).digest()


def _put(parameters: Mapping[str, nn.Parameter], values: Values) -> None:
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(values[key])


def _moved(parameters: Mapping[str, nn.Parameter], start: Values) -> dict[str, Tensor]:
    return {key: parameter.detach().float() - start[key].float() for key, parameter in parameters.items()}


def _norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.detach().double().square().sum()) for tensor in tensors))
