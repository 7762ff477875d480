"""One forward and backward pass over a microbatch: the factors that each parameter's uses gave, joined as they come.

`bookkeeping_hooks` fills it from the layers, `bookkeeping_clip` reads norms and clipped sums off it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from dp_train.engines.bookkeeping_factors import (
    GramMemory,
    Lookup,
    UnitGradient,
    UnitRows,
    better_as_gradient,
    product_squared_norms,
)
from dp_train.engines.bookkeeping_rules import Factor
from dp_train.engines.scaling import Scale
from dp_train.errors import ModelError


class Pass:
    """What one forward and backward pass over a microbatch left behind."""

    def __init__(self, unit_rows: UnitRows, scales: Mapping[nn.Parameter, Scale] | None = None) -> None:
        self.unit_rows = unit_rows
        self._scales = scales or {}
        self.gradients: dict[nn.Parameter, UnitGradient] = {}
        self.uses: Counter[nn.Parameter] = Counter()
        self.differentiated = False
        self.closed = False
        self.rounding = torch.finfo(torch.float32).eps
        """Machine precision of the coarsest gradient that was seen."""
        self.on_complete: Callable[[nn.Parameter, UnitGradient], None] | None = None
        """Takes a parameter's gradient as soon as all its uses gave theirs, in the middle of the backward pass."""
        self._received: Counter[nn.Parameter] = Counter()
        self._memory = GramMemory()

    @property
    def rows(self) -> int:
        """Rows of the microbatch."""
        return self.unit_rows.owner.shape[0]

    def add(self, parameter: nn.Parameter, factor: Factor) -> None:
        """Take up what one call of a layer gave a parameter."""
        if (scale := self._scales.get(parameter)) is not None:
            factor = scale.stretch(factor) if isinstance(factor, Tensor) else factor.stretched(scale)
        self._take(self.gradients.setdefault(parameter, UnitGradient()), parameter, factor)
        if self.on_complete is None:
            return
        self._received[parameter] += 1
        if self._received[parameter] == self.uses[parameter]:
            self.on_complete(parameter, self.gradients.pop(parameter))
        elif self._received[parameter] > self.uses[parameter]:
            raise ModelError("model: a parameter got more gradients than its layer had calls; use clipping FLAT")

    def _take(self, gradient: UnitGradient, parameter: nn.Parameter, factor: Factor) -> None:
        if isinstance(factor, Tensor):
            gradient.add_dense(self.unit_rows.sum_rows(factor))
            return
        if isinstance(factor, Lookup):
            gradient.add_lookup(factor)
            return
        positions = self.unit_rows.longest * factor.left.shape[1]
        if self.uses[parameter] <= 1 and better_as_gradient(positions, factor.left.shape[2], factor.right.shape[2]):
            gradient.add_dense(factor.instantiate(self.unit_rows))
            return
        norms = partial(product_squared_norms, memory=self._memory)
        gradient.add_product(factor, self.unit_rows.per_unit(norms, factor.left, factor.right))

    def close(self) -> None:
        """No gradient is taken after this."""
        self.closed = True
        self._memory.clear()
