"""Tries on a model leave no trace: what a self-check may change meanwhile, and how all of it is put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dp_train.engines.base import AnyEngine
from dp_train.engines.leaving import plain_tensors, tensor_digest
from dp_train.errors import ModelError

_TF32 = 2.0**-10
_WAKE = 0.02  # what stands in for zeros, see `woken`


def put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(values[key])


@contextmanager
def noted_precision() -> Iterator[list[float]]:
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
def woken(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
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
        put(parameters, held)


@contextmanager
def as_found(name: AnyEngine, model: nn.Module) -> Iterator[None]:
    """In evaluation mode inside; afterwards as it was, and if the engine left something changed that is told.

    Trainable values are looked after by `woken`.

    Raises:
      ModelError: a layer has other attributes, hooks or parameters, or a frozen tensor other values.
    """
    layers = [(path or type(model).__name__, module, _Attributes(module)) for path, module in model.named_modules()]
    parameters = dict(model.named_parameters())
    tensors = [(key, parameter, _Attributes(parameter), parameter.grad) for key, parameter in parameters.items()]
    frozen = {key: tensor_digest(parameter) for key, parameter in parameters.items() if not parameter.requires_grad}
    kept = [*model.named_buffers(), *plain_tensors(model)]
    buffers = [(key, buffer, buffer.detach().clone()) for key, buffer in kept]
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
            left += [key for key, digest in frozen.items() if tensor_digest(parameters[key]) != digest]
            for key, buffer, values in buffers:
                if not torch.equal(buffer, values):
                    left.append(key)
                    with torch.no_grad():
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
        """Restore all of it; whether something was otherwise, but for the mode that `as_found` set."""
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
