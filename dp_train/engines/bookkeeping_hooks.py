"""Hooks that keep what each layer saw, and leave the ordinary weight gradient out of the backward pass.

While a layer runs, its trainable parameters do not require a gradient, so autograd computes the gradient of the
layer's input and nothing else; the layer's input and output gradient become factors of the per-unit
gradients. The layer's own forward runs as it is. A parameter that is used outside its layer still requires a
gradient there, so autograd gives it one: that is how such a use is found out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from opacus.grad_sample.gsm_base import AbstractGradSampleHooks
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dp_train.engines.bookkeeping_factors import (
    UnitRows,
    in_float32,
)
from dp_train.engines.bookkeeping_pass import Pass
from dp_train.engines.bookkeeping_rules import (
    FactorRule,
    Layout,
    LookedUp,
    factor_rule,
    is_lookup,
    layouts,
    looked_up,
    no_rule,
    relative_bias,
)
from dp_train.engines.scaling import Scale
from dp_train.errors import ModelError

_ATTACHED = "autograd_grad_sample_hooks"  # Opacus' own mark on a model that has hooks


class BookkeepingHooks(AbstractGradSampleHooks):  # type: ignore[misc]
    """Per-unit gradients as factors, gathered while a model runs forward and backward; the model is not wrapped.

    Args:
      m: the model. What is trainable is decided before.
      batch_first: rows are the first dimension of every layer's input, else the second.
      loss_reduction: "mean" or "sum", how the loss that is differentiated joins the rows.
      everywhere: record in evaluation mode too; otherwise only layers in training mode, as Opacus does.

    Raises:
      ModelError: a layer has no rule, or another engine is attached.
    """

    def __init__(
        self, m: nn.Module, *, batch_first: bool = True, loss_reduction: str = "mean", everywhere: bool = False
    ) -> None:
        if hasattr(m, _ATTACHED):
            raise ModelError("model: another engine is attached to it; call that engine's detach() first")
        self._names = {module: name or type(m).__name__ for name, module in m.named_modules()}
        self._rules = {
            module: factor_rule(module, name)
            for module, name in self._names.items()
            if any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        }
        super().__init__(m, batch_first=batch_first, loss_reduction=loss_reduction)
        self.enabled = True
        self._everywhere = everywhere
        self._rows_dim = 0 if batch_first else 1
        self._layouts = layouts(m)
        self._accumulation_allowed = True
        self._current: Pass | None = None
        self._done: list[Pass] = []
        self._held: dict[nn.Module, list[nn.Parameter]] = {}
        self._probed: dict[nn.Module, Tensor] | None = None  # a dict while probing
        self._broadcast: set[nn.Module] = set()
        self._lookups: set[nn.Module] = set()
        self._bias_ids: dict[nn.Module, list[Tensor]] = {}
        self._replaced: list[nn.Module] = []
        self._keep_in_graph = False
        self._anchors: dict[torch.device, Tensor] = {}
        self._handles: list[RemovableHandle] = [m.register_forward_pre_hook(self._begin, with_kwargs=True)]
        setattr(m, _ATTACHED, self._handles)
        for module in self._rules:
            self._handles.append(module.register_forward_pre_hook(self._hold_gradient))
            self._handles.append(module.register_forward_hook(self._capture, with_kwargs=True, always_call=True))
        for module in m.modules():
            bias = getattr(module, "relative_attention_bias", None)
            if isinstance(bias, nn.Embedding) and bias in self._rules and hasattr(module, "compute_bias"):
                self._give_bias_rows(module, bias)

    @contextmanager
    def recording(self, unit_rows: UnitRows, scales: Mapping[nn.Parameter, Scale] | None = None) -> Iterator[Pass]:
        """Record one forward and backward pass over a microbatch of known units, and nothing outside of it.

        Args:
          scales: public factors; what is recorded of these parameters is their stretched gradients.
        """
        taken = self._current = Pass(unit_rows, scales)
        self._keep_in_graph = self._checkpoints()
        self.enabled = True
        try:
            yield taken
        finally:
            self.enabled = False
            self._current = None
            self._done = []
            taken.close()

    @property
    def recomputes(self) -> bool:
        """Whether parts of the forward pass may run again during the backward pass, so that uses are not counted."""
        return self._keep_in_graph

    def probe(self, forward: Callable[[Mapping[str, Tensor]], Tensor], inputs: Mapping[str, Tensor]) -> None:
        """See with one row which lookups have no batch dimension: they may have as many positions as there are rows.

        Args:
          forward: runs the model. inputs: of a microbatch, rows first.

        Raises:
          ModelError: a lookup of more than one dimension without rows.
        """
        devices = [tensor.device.index or 0 for tensor in inputs.values() if tensor.device.type == "cuda"]
        self._probed = {}
        try:
            with torch.no_grad(), torch.random.fork_rng(devices), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="None of the inputs have requires_grad")  # checkpoints
                forward({name: tensor[:1] for name, tensor in inputs.items()})
            for module, ids in self._probed.items():
                if module not in self._bias_ids and ids.shape[0] != 1:
                    if ids.dim() > 1:
                        raise self._not_rows_first(module)
                    self._broadcast.add(module)
        finally:
            self._probed = None

    def take_passes(self) -> list[Pass]:
        """The passes that ran backward since this was last called; what they hold is the caller's now."""
        done, self._done = self._done, []
        for taken in done:
            taken.close()
        return done

    def forbid_grad_accumulation(self) -> None:
        """From now on a second backward pass before the optimizer's step is an error."""
        self._accumulation_allowed = False

    def allow_grad_accumulation(self) -> None:
        """Undo `forbid_grad_accumulation`."""
        self._accumulation_allowed = True

    def remove_hooks(self) -> None:
        """Take hooks and replaced methods off the model."""
        self.enabled = False
        self._current, self._done = None, []
        for handle in self._handles:
            handle.remove()
        for module in self._replaced:
            module.__dict__.pop("compute_bias", None)
        if hasattr(self._module, _ATTACHED):
            delattr(self._module, _ATTACHED)

    def _records(self, module: nn.Module) -> bool:
        return self.enabled and torch.is_grad_enabled() and (self._everywhere or module.training)

    def _begin(self, module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """In a loop that is not ours, a pass begins where the model is called."""
        if self._everywhere or not self._records(module):
            return
        tensors = [value for value in (*inputs, *named.values()) if isinstance(value, Tensor) and value.dim() > 0]
        if not tensors:
            raise ModelError(f"model: {type(module).__name__} was called without a tensor, so rows cannot be counted")
        rows = self._rows_first(tensors[0]).shape[0]
        current = self._current
        if current is None or current.differentiated or current.closed or current.unit_rows.num_units != rows:
            self._keep_in_graph = self._checkpoints()
            self._current = Pass(UnitRows.single(rows, tensors[0].device))

    def _hold_gradient(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._records(module):
            held = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
            self._held[module] = held
            for parameter in held:
                parameter.requires_grad = False

    def _capture(
        self, module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Any
    ) -> Tensor | None:
        """Keep the layer's inputs and wait for the gradient of its output."""
        if self._probed is not None and isinstance(module, nn.Embedding) and output is not None:
            self._probed[module] = self._looked_up(module, inputs, named, output).ids
        held = self._held.pop(module, ())
        for parameter in held:
            parameter.requires_grad = True
        if not held or output is None:  # not recording, or the layer's forward raised
            return None
        if not isinstance(output, Tensor):
            raise ModelError(f"model: layer {self._names[module]} gives no single tensor; use engine naive")
        if self._current is None:
            raise ModelError(f"model: layer {self._names[module]} was called, not the whole model; call the model")
        if isinstance(module, nn.Embedding):
            kept = [value for value in self._looked_up(module, inputs, named, output) if value is not None]
            ids = kept[0]
            if module in self._bias_ids:
                self._bias_ids[module] = [ids]
                return None
            if self._is_broadcast(module, ids):
                # Summed over the batch, rows can no longer be told apart: give each its own view before that.
                first = int(ids.dim() > 1 and ids.shape[0] == 1)
                rows = self._current.rows
                wide = output.expand(rows, *output.shape[first:])
                kept = [value.expand(rows, *value.shape[first:]) for value in kept]
                return self._start(wide, self._taker(module, self._rules[module], held, kept))
        else:
            kept = [value.detach() for value in (*inputs, *named.values()) if isinstance(value, Tensor)]
        self._check_rows(module, [*kept[:1], output])
        take = self._taker(module, self._rules[module], held, kept)
        if not output.requires_grad:
            return self._start(output, take)
        output.register_hook(take)  # type: ignore[no-untyped-call]
        return None

    def _looked_up(
        self, module: nn.Embedding, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Tensor
    ) -> LookedUp:
        """What a call asked for; of a class that is not torch's own, its first call shows whether it looks up alone."""
        asked = looked_up(module, inputs, named)
        if type(module) is not nn.Embedding and module not in self._lookups:
            if not is_lookup(module, asked, output):
                raise no_rule(module, self._names[module])
            self._lookups.add(module)
        return asked

    def _taker(
        self, module: nn.Module, rule: FactorRule, held: list[nn.Parameter], inputs: list[Tensor]
    ) -> Callable[[Tensor], None]:
        """What to do when the gradient of a layer's output comes."""
        current, name, fetch = self._current, self._names[module], self._keep(inputs)
        assert current is not None
        if torch._C._current_graph_task_id() == -1:  # a checkpoint's second forward pass is no second use
            current.uses.update(held)

        def take(grads: Tensor) -> None:
            if current.closed:
                raise ModelError(f"model: a second backward pass reached layer {name}; run one a forward pass")
            if not self._accumulation_allowed and any(other is not current for other in self._done):
                raise ValueError(
                    "Poisson sampling is not compatible with grad accumulation. You need to call optimizer.step() "
                    "after every forward/backward pass or consider using BatchMemoryManager"
                )
            if not current.differentiated:
                current.differentiated = True
                self._done.append(current)
            if current.rows == 0:
                return
            current.rounding = max(current.rounding, torch.finfo(grads.dtype).eps)
            with torch.no_grad(), in_float32(grads.device):
                seen = [self._by_row(module, value, current.rows) for value in fetch(name)]
                for parameter, factor in rule(module, seen, self._by_row(module, grads, current.rows)):
                    current.add(parameter, factor)

        return take

    def _keep(self, inputs: list[Tensor]) -> Callable[[str], list[Tensor]]:
        """Hold tensors until the backward pass; for gradient checkpointing in the graph, which can drop them."""
        if self._keep_in_graph:
            kept: Tensor = _Keep.apply(self._anchor(inputs[0].device), *inputs)  # type: ignore[no-untyped-call]
            node: Any = kept.grad_fn
            return lambda name: list(node.saved_tensors)
        versions = [value._version for value in inputs]

        def fetch(name: str) -> list[Tensor]:
            if [value._version for value in inputs] != versions:
                raise ModelError(f"model: the input of layer {name} was changed in place after its use; copy it before")
            taken = list(inputs)
            inputs.clear()  # the graph lives on as long as the losses do, and this with it
            return taken

        return fetch

    def _start(self, output: Tensor, take: Callable[[Tensor], None]) -> Tensor:
        """An output that nothing before it needs a gradient of: the graph starts here."""
        started: Tensor = _Start.apply(self._anchor(output.device), [output], take)  # type: ignore[no-untyped-call]
        return started

    def _anchor(self, device: torch.device) -> Tensor:
        if device not in self._anchors:
            self._anchors[device] = torch.zeros((), device=device, requires_grad=True)
        return self._anchors[device]

    def _is_broadcast(self, module: nn.Module, ids: Tensor) -> bool:
        """Whether one lookup, (1, T) or (T,), serves all rows."""
        assert self._current is not None
        rows, first = self._current.rows, self._rows_first(ids).shape[0]
        if module in self._broadcast:
            return True
        if first == rows:
            return False
        if self._rows_dim == 1 or (first != 1 and ids.dim() > 1):
            raise self._not_rows_first(module)
        return True

    def _give_bias_rows(self, attention: nn.Module, bias: nn.Embedding) -> None:
        """T5 looks its bias up once for all rows, as (queries, keys): give each row its own view of it."""
        compute_bias = attention.compute_bias
        assert callable(compute_bias)

        def by_row(*args: Any, **named: Any) -> Tensor:
            self._bias_ids[bias] = []
            values: Tensor = compute_bias(*args, **named)  # (1, …, heads, queries, keys)
            ids = self._bias_ids[bias]
            if not ids or self._current is None:
                return values
            wide = values.expand(self._current.rows, *values.shape[1:])
            return self._start(wide, self._taker(bias, relative_bias, [bias.weight], ids))

        self._bias_ids[bias] = []
        self._replaced.append(attention)
        attention.compute_bias = by_row

    def _check_rows(self, module: nn.Module, tensors: list[Tensor]) -> None:
        assert self._current is not None
        rows = self._current.rows
        for tensor in tensors:
            if tensor.dim() == 0 or self._by_row(module, tensor, rows).shape[0] != rows:
                raise self._not_rows_first(module)

    def _by_row(self, module: nn.Module, values: Tensor, rows: int) -> Tensor:
        """What a layer took or gave, rows first."""
        layout = self._layouts.get(module, Layout.ROWS_FIRST)
        if layout is Layout.ROWS_SECOND and values.dim() > 2:
            return values.transpose(0, 1)
        if layout is Layout.JOINED and values.dim() == 2 and rows and values.shape[0] % rows == 0:
            return values.reshape(rows, values.shape[0] // rows, values.shape[1])
        return self._rows_first(values)

    def _rows_first(self, values: Tensor) -> Tensor:
        return values.transpose(0, 1) if self._rows_dim == 1 and values.dim() > 1 else values

    def _checkpoints(self) -> bool:
        return any(getattr(module, "gradient_checkpointing", False) for module in self._names)

    def _not_rows_first(self, module: nn.Module) -> ModelError:
        return ModelError(
            f"model: layer {self._names[module]} ({type(module).__name__}) does not have the batch as its "
            f"{'second' if self._rows_dim else 'first'} dimension, so its gradient cannot be told apart by row; "
            "use engine naive"
        )


class _Start(torch.autograd.Function):
    """Joins a tensor to the graph although nothing it was made of needs a gradient."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, holder: list[Tensor], take: Callable[[Tensor], None]) -> Tensor:
        ctx.take = take
        return holder.pop()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None]:
        ctx.take(grads[0])
        return None, None, None


class _Keep(torch.autograd.Function):
    """Saves tensors in the graph, where a checkpoint can drop them."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        return anchor.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        return (None,) * (len(ctx.saved_tensors) + 1)
