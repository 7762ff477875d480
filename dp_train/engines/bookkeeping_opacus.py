"""Book-keeping for a training loop of one's own: Opacus' `PrivacyEngine` with one more mode.

    from dp_train.engines.bookkeeping_opacus import BookkeepingPrivacyEngine as PrivacyEngine

    model, optimizer, loader = PrivacyEngine().make_private(
        module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
    )

Everything else of the loop stays. Opacus' loader, sampling rate and ε come with their own limits;
`dp_train.Trainer` does not use them.
"""

from __future__ import annotations

from typing import Any

import torch
from opacus import PrivacyEngine
from opacus.grad_sample import AbstractGradSampleModule
from torch import nn

from dp_train.engines.base import Clipping
from dp_train.engines.bookkeeping_clip import BookkeepingOptimizer
from dp_train.engines.bookkeeping_hooks import BookkeepingHooks
from dp_train.errors import ConfigError

MODE = "bookkeeping"

_CLIPPINGS = {"flat": Clipping.FLAT, "automatic": Clipping.AUTOMATIC, "per_layer": Clipping.PER_LAYER}


class BookkeepingModule(AbstractGradSampleModule):  # type: ignore[misc]
    """A model with `BookkeepingHooks`, wrapped as Opacus wraps models by default."""

    def __init__(self, m: nn.Module, *, batch_first: bool = True, loss_reduction: str = "mean") -> None:
        super().__init__(m, batch_first=batch_first, loss_reduction=loss_reduction)
        self.hooks = BookkeepingHooks(m, batch_first=batch_first, loss_reduction=loss_reduction)

    def forbid_grad_accumulation(self) -> None:
        """From now on a second backward pass before the optimizer's step is an error."""
        self.hooks.forbid_grad_accumulation()

    def allow_grad_accumulation(self) -> None:
        """Undo `forbid_grad_accumulation`."""
        self.hooks.allow_grad_accumulation()

    def remove_hooks(self) -> None:
        """Take the hooks off the model."""
        self.hooks.remove_hooks()


class BookkeepingPrivacyEngine(PrivacyEngine):  # type: ignore[misc]
    """`PrivacyEngine` with `grad_sample_mode="bookkeeping"`, and with that mode unless another is named.

    Tied weights, transformers' layers and LoRA work; `clipping` is "flat", "automatic" or "per_layer"
    (see `Clipping`). A layer without a rule is refused by name. Opacus' own modes work as before.
    """

    def make_private(self, *, grad_sample_mode: str = MODE, **kwargs: Any) -> Any:
        """`PrivacyEngine.make_private`."""
        return super().make_private(grad_sample_mode=grad_sample_mode, **kwargs)

    def make_private_with_epsilon(self, *, grad_sample_mode: str = MODE, **kwargs: Any) -> Any:
        """`PrivacyEngine.make_private_with_epsilon`."""
        return super().make_private_with_epsilon(grad_sample_mode=grad_sample_mode, **kwargs)

    def _prepare_model(
        self,
        module: nn.Module,
        *,
        batch_first: bool = True,
        max_grad_norm: float | list[float] = 1.0,
        loss_reduction: str = "mean",
        grad_sample_mode: str = "hooks",
        wrap_model: bool = True,
    ) -> Any:
        if grad_sample_mode != MODE:
            return super()._prepare_model(
                module,
                batch_first=batch_first,
                max_grad_norm=max_grad_norm,
                loss_reduction=loss_reduction,
                grad_sample_mode=grad_sample_mode,
                wrap_model=wrap_model,
            )
        self.validate(module=module, optimizer=None, data_loader=None)
        kind = BookkeepingModule if wrap_model else BookkeepingHooks
        prepared = kind(module, batch_first=batch_first, loss_reduction=loss_reduction)
        self._hooks = prepared.hooks if isinstance(prepared, BookkeepingModule) else prepared
        return prepared

    def _prepare_optimizer(
        self,
        *,
        optimizer: torch.optim.Optimizer,
        distributed: bool = False,
        clipping: str = "flat",
        noise_generator: torch.Generator | None = None,
        grad_sample_mode: str = "hooks",
        **kwargs: Any,
    ) -> Any:
        if grad_sample_mode != MODE:
            return super()._prepare_optimizer(
                optimizer=optimizer,
                distributed=distributed,
                clipping=clipping,
                noise_generator=noise_generator,
                grad_sample_mode=grad_sample_mode,
                **kwargs,
            )
        if distributed:
            raise ConfigError("grad_sample_mode bookkeeping: one process; for a distributed model use hooks or ghost")
        if clipping not in _CLIPPINGS:
            raise ConfigError(f"clipping {clipping!r}: expected one of {', '.join(_CLIPPINGS)}")
        return BookkeepingOptimizer(
            getattr(optimizer, "original_optimizer", optimizer),
            hooks=self._hooks,
            clipping=_CLIPPINGS[clipping],
            generator=self.secure_rng if self.secure_mode else noise_generator,
            secure_mode=self.secure_mode,
            **kwargs,
        )
