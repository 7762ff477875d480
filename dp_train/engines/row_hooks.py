"""Opacus' `GradSampleHooks`, made strict: each layer's first dimension is the batch, or the model is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.grad_sample.functorch import ft_compute_per_sample_gradient, prepare_layer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dp_train.engines.layer_rules import LayerRule, layer_rule, qualified_name
from dp_train.errors import ModelError

_RELATIVE_BIAS = ("transformers.models.t5.modeling_t5.T5Attention", "transformers.models.mt5.modeling_mt5.MT5Attention")

_BART_POSITIONS = "transformers.models.bart.modeling_bart.BartLearnedPositionalEmbedding"


class UnitGradSampleHooks(GradSampleHooks):  # type: ignore[misc]
    """Per-row gradients of every trainable parameter, while `recording`.

    What differs from Opacus': layers without a rule are refused by name instead of being differentiated by
    functorch; recording does not depend on ``model.training``, where a model in evaluation mode would give no
    gradient at all; lookups that broadcast over the batch (positions of GPT-2, relative bias of T5) get a batch
    dimension; and a forward pass outside `recording` leaves nothing behind.

    Raises:
      ModelError: a layer has no rule, another engine is attached, or gradient checkpointing is on.
    """

    def __init__(self, model: nn.Module, *, functorch: bool = False) -> None:
        if hasattr(model, "autograd_grad_sample_hooks"):
            raise ModelError("model: another engine is attached to it; call that engine's detach() first")
        self._names = {module: name or type(model).__name__ for name, module in model.named_modules()}
        # Opacus looks rules up by class in this attribute: here it holds what the model needs, and no more.
        self.GRAD_SAMPLERS = self._find_rules(functorch=functorch)
        self._rows = 0
        self._shapes: dict[nn.Module, list[torch.Size]] | None = None  # a dict while probing
        self._broadcast: set[nn.Module] = set()
        self._biases: dict[nn.Module, nn.Module] = {}
        self._handles: list[RemovableHandle] = []
        super().__init__(model, batch_first=True, loss_reduction="sum")
        self.disable_hooks()
        for module in model.modules():
            if qualified_name(module) in _RELATIVE_BIAS and getattr(module, "has_relative_attention_bias", False):
                self._give_relative_bias_rows(module)
            elif qualified_name(module) == _BART_POSITIONS:
                hook = module.register_forward_pre_hook(self._count_positions, with_kwargs=True)
                self._handles.append(hook)
            elif isinstance(module, nn.Embedding):
                self._handles.append(module.register_forward_pre_hook(self._give_ids_rows))

    @contextmanager
    def recording(self, rows: int) -> Iterator[None]:
        """Keep what the layers see of a microbatch of `rows` rows; on leaving, forget it all."""
        self._rows = rows
        self.enable_hooks()
        try:
            yield
        finally:
            self.disable_hooks()
            self._forget()

    def probe(self, forward: Callable[[Mapping[str, Tensor]], Tensor], inputs: Mapping[str, Tensor]) -> None:
        """See with one row, and with the same row twice, which layers have rows in their first dimension.

        A lookup without a batch dimension may have as many positions as the batch has rows: one shape does
        not tell them apart, two do.

        Raises:
          ModelError: a layer's first dimension is neither the batch nor an embedding's broadcast over it.
        """
        devices = {tensor.device for tensor in inputs.values() if tensor.device.type == "cuda"}
        seen: list[dict[nn.Module, list[torch.Size]]] = []
        for copies in (1, 2):
            self._shapes = {}
            try:
                with torch.no_grad(), torch.random.fork_rng(list(devices)), self.recording(copies):
                    forward({name: torch.cat([tensor[:1]] * copies) for name, tensor in inputs.items()})
                seen.append(self._shapes)
            finally:
                self._shapes = None
        for module in seen[0].keys() & seen[1].keys() - self._biases.keys():
            once, twice = seen[0][module], seen[1][module]
            if all(shape[:1] == (1,) for shape in once) and all(shape[:1] == (2,) for shape in twice):
                continue
            broadcasts = all(len(shape) == 1 or shape[0] == 1 for shape in once)
            if not (isinstance(module, nn.Embedding) and broadcasts and once[0] == twice[0]):
                raise self._not_rows_first(module)
            self._broadcast.add(module)

    def capture_activations_hook(self, module: nn.Module, forward_input: Any, forward_output: Any) -> None:
        """Keep the layer's inputs, once it is sure that rows come first."""
        if not self.hooks_enabled:
            return
        tensors = [value.detach() for value in forward_input if isinstance(value, Tensor)]
        if not tensors or not isinstance(forward_output, Tensor):
            raise ModelError(
                f"model: layer {self._names[module]} does not take positional tensors and give one tensor; "
                "use engine naive"
            )
        if self._shapes is not None:
            self._shapes.setdefault(module, []).append(tensors[0].shape)
            return
        if not torch.is_grad_enabled():
            return
        if module in self._biases:
            tensors[0] = tensors[0].view(self._rows, -1)
        elif tensors[0].shape[0] != self._rows or forward_output.shape[0] != self._rows:
            raise self._not_rows_first(module)
        if not forward_output.requires_grad:
            return
        hook = partial(self._take_output_gradient, module, tensors)
        forward_output.register_hook(hook)  # type: ignore[no-untyped-call]

    def add_hooks(self, *, force_functorch: bool = False, **_: Any) -> None:
        """One forward hook a layer; the backward hook goes onto each output as it comes.

        Opacus' full backward hooks wait for the gradient of a layer's input, which BART's encoder positions never
        get (they take hidden states for their shape alone), pair a layer's calls with its gradients by
        their order, and warn about every embedding.
        """
        handles: list[RemovableHandle] = []
        for module in self.iterate_submodules(self._module):
            if type(module) not in self.GRAD_SAMPLERS:
                prepare_layer(module)
            handles.append(module.register_forward_hook(self.capture_activations_hook))
        self.autograd_grad_sample_hooks = self._module.autograd_grad_sample_hooks = handles

    def cleanup(self) -> None:
        """Take hooks, attributes and replaced methods off the model."""
        for handle in self._handles:
            handle.remove()
        for attention in self._biases.values():
            attention.__dict__.pop("compute_bias", None)
        self._forget()
        super().cleanup()

    def _find_rules(self, *, functorch: bool) -> dict[type[nn.Module], LayerRule]:
        rules: dict[type[nn.Module], LayerRule] = {}
        for module, name in self._names.items():
            if getattr(module, "gradient_checkpointing", False):
                raise ModelError(
                    f"model: {name} recomputes its forward pass, which hooks would count twice; "
                    "call gradient_checkpointing_disable() and use smaller microbatches"
                )
            if not any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
                continue
            rule = layer_rule(module)
            if rule is not None:
                rules[type(module)] = rule
            elif not functorch or any(True for _ in module.buffers()):
                raise ModelError(
                    f"model: no rule for layer {name} ({type(module).__name__}); "
                    f"freeze it, or use engine naive{'' if functorch else ' or functorch'}"
                )
        return rules

    @property
    def _active(self) -> bool:
        return self.hooks_enabled and self._shapes is None and torch.is_grad_enabled()

    def _give_ids_rows(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """(1, T) or (T,) ids that broadcast over the batch → (rows, T): then each row's gradient is its own."""
        if not self._active or module not in self._broadcast:
            return None
        ids, *rest = inputs
        return (ids.expand(self._rows, *ids.shape[-1:] if ids.dim() == 1 else ids.shape[1:]), *rest)

    def _count_positions(
        self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """BART's decoder names positions 0 … T − 1 once for all rows; unnamed, it counts them for each row."""
        positions = named.get("position_ids")
        if not self._active or positions is None:
            return None
        if not torch.equal(positions, torch.arange(inputs[0].shape[1], device=positions.device)):
            raise self._not_rows_first(module)
        return inputs, {**named, "position_ids": None}

    def _give_relative_bias_rows(self, attention: nn.Module) -> None:
        """T5 looks its bias up as (queries, keys); stack the lookup once a row, then part the rows again."""
        compute_bias = attention.compute_bias
        bias = attention.relative_attention_bias
        assert callable(compute_bias)
        assert isinstance(bias, nn.Embedding)
        if not bias.weight.requires_grad:
            return

        def stack(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            return (inputs[0].repeat(self._rows, 1),) if self._active else None  # (rows · queries, keys)

        def by_row(*args: Any, **kwargs: Any) -> Tensor:
            values: Tensor = compute_bias(*args, **kwargs)  # (1, heads, rows · queries, keys)
            return values[0].unflatten(1, (self._rows, -1)).transpose(0, 1) if self._active else values

        self._handles.append(bias.register_forward_pre_hook(stack))
        self._biases[bias] = attention
        attention.compute_bias = by_row

    def _take_output_gradient(self, module: nn.Module, tensors: list[Tensor], gradient: Tensor) -> None:
        """Add what this call of the layer gives to its parameters' per-row gradients; tied layers meet there."""
        if not self.hooks_enabled:
            return
        rule = self.GRAD_SAMPLERS.get(type(module), ft_compute_per_sample_gradient)
        for parameter, rows in rule(module, tensors, gradient.detach()).items():
            if parameter.requires_grad:
                # Not in place: a rule may give a view of the gradient that autograd still passes on.
                parameter.grad_sample = rows if parameter.grad_sample is None else parameter.grad_sample + rows

    def _not_rows_first(self, module: nn.Module) -> ModelError:
        return ModelError(
            f"model: layer {self._names[module]} ({type(module).__name__}) does not have the batch as its first "
            "dimension, so its gradient cannot be told apart by row; use engine naive"
        )

    def _forget(self) -> None:
        """A pass that broke off must not be taken for a part of the next."""
        for parameter in self._module.parameters():
            if parameter.requires_grad:
                parameter.grad_sample = None
