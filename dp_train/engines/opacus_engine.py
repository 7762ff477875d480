"""What engines on Opacus' hooks share: one noised release a step, the accountant's history, a model left clean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from opacus.accountants import RDPAccountant
from torch import nn

from dp_train.engines.base import StepRecord
from dp_train.engines.units import StepSum
from dp_train.errors import ModelError
from dp_train.privacy.plan import PrivacyPlan


class ReleasedOnce:
    """The part of an Opacus optimizer that releases a step's sum: Opacus' `pre_step`, with the noise of a `StepSum`.

    Guarantee: each sum is noised once, by the noise source of the run, and divided by the public `expected_units`.
    """

    record: StepRecord | None
    pre_step: Callable[[], bool | None]

    def __init__(self, *words: Any, total: StepSum, parameters: Mapping[str, nn.Parameter], **named: Any) -> None:
        super().__init__(*words, **named)
        refuse_other_parameters(self.params, parameters)  # type: ignore[attr-defined]
        self.record = None
        self._sum = total
        self._step = 0

    def release(self, step: int) -> StepRecord:
        """Run Opacus' `pre_step`: noise, division, step hook."""
        self._step = step
        self.pre_step()
        assert self.record is not None
        return self.record

    def add_noise(self) -> None:
        """Noise each sum once and write it, divided by the public `expected_units`, to ``p.grad``."""
        self.record = self._sum.release(self._step)

    def scale_grad(self) -> None:
        """Do nothing: the sum was divided in float32, before it took the parameter's type."""


def refuse_other_parameters(found: Iterable[nn.Parameter], parameters: Mapping[str, nn.Parameter]) -> None:
    """Raise ModelError unless an optimizer steps on exactly the trainable parameters of the model."""
    ids = {id(parameter) for parameter in found}
    if ids != {id(parameter) for parameter in parameters.values()}:
        raise ModelError(
            f"optimizer: steps on {len(ids)} trainable tensors and the model has {len(parameters)}; "
            "give the optimizer exactly the model's parameters with requires_grad"
        )


class _Hooks(Protocol):
    def cleanup(self) -> None: ...


class OpacusEngine:
    """An engine of hooks on a model and an Opacus optimizer that releases; it leaves `accumulate` to the engine."""

    def __init__(self, model: nn.Module, hooks: _Hooks, optimizer: Any, plan: PrivacyPlan) -> None:
        self._attached = model, hooks
        self._releases: Callable[[int], StepRecord] = optimizer.release
        self._accountant = RDPAccountant()
        optimizer.attach_step_hook(self._accountant.get_optimizer_hook_fn(sample_rate=plan.sample_rate))

    def release(self, step: int) -> StepRecord:
        """Noise, divide, write ``p.grad``; Opacus' step hook hears of it."""
        return self._releases(step)

    def opacus_history(self) -> list[tuple[float, float, int]]:
        """Return (noise multiplier, sample rate, steps) of the releases so far, as Opacus' accountants keep them."""
        return list(self._accountant.history)

    def detach(self) -> None:
        """Take hooks and attributes off the model."""
        model, hooks = self._attached
        hooks.cleanup()
        for parameter in model.parameters():
            if hasattr(parameter, "summed_grad"):
                del parameter.summed_grad
