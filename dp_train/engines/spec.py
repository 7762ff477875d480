"""The words of an engine in a configuration, and which engines there are. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dp_train.expect import expect
from dp_train.register import Register, canonical
from dp_train.settled import settled
from dp_train.words import Word

if TYPE_CHECKING:
    from dp_train.engines.base import Engine


class EngineName(Word):
    """The engines of this package."""

    NON_PRIVATE = "non_private"
    NAIVE = "naive"
    HOOKS = "hooks"
    GHOST = "ghost"
    FUNCTORCH = "functorch"
    BOOKKEEPING = "bookkeeping"


@dataclass(frozen=True, slots=True)
class OwnEngine:
    """An engine from outside: its name in the register, and what builds it.

    `build` takes the keywords of `engines.build.build_engine` but its name: model, row_losses, plan, noise, optimizer,
    clipping, scaling; where several processes train one model, also ranks (`engines.ranks`). What it builds is compared
    with `naive` on public rows before a private run draws anything, and its records are compared with the plan while it
    runs, as those of every engine are.
    """

    value: str
    build: Callable[..., Engine]


AnyEngine = EngineName | OwnEngine


class Clipping(Word):
    """How a unit's gradient g is bounded by the clip norm C; the noise is a multiple of C in every mode.

    FLAT: g · min(1, C ÷ ‖g‖). Sensitivity C.
    AUTOMATIC: C · g ÷ (‖g‖ + 0.01), which has no clip norm to tune: C and the learning rate are one
    (Bu et al. 2023, arXiv 2206.07136). Sensitivity below C.
    PER_LAYER: each of the L trainable tensors clipped by itself to C ÷ √L (McMahan et al. 2018, arXiv 1710.06963).
    Sensitivity C, as the squares add up to C². Where one tensor's gradient of a unit is not finite that tensor
    counts as zero, where the unit's loss is not finite all of them do.
    """

    FLAT = "flat"
    AUTOMATIC = "automatic"
    PER_LAYER = "per_layer"


ENGINES: Register[Any] = Register(
    "engine",
    "dp_train.engines",
    {name.value: "dp_train.engines.spec:engine_of" for name in EngineName if name is not EngineName.NON_PRIVATE},
)
"""Engines that clip; without privacy there is no choice."""


def engine_of(name: str) -> AnyEngine:
    """The engine of that name in the register, for `Trainer(engine=…)`.

    Raises:
      ConfigError: there is none.
    """
    name = canonical(name)
    found = ENGINES.find(name)
    return EngineName(name) if ENGINES.is_builtin(name) else OwnEngine(name, found)


@settled
@dataclass(kw_only=True)
class EngineConfig:
    """How clipped sums are formed: `name` changes speed and memory, the rest what is learnt, none the ε."""

    name: str
    """Which engine: a built-in one, an entry point of an installed package, or module:Name (docs/extending.md)."""
    clipping: Clipping = Clipping.FLAT
    """How a unit's gradient is bounded: `flat`, `automatic` or `per_layer`; see `engines.spec.Clipping`."""
    scaling: float = 0.0
    """Power of scale-then-privatise, see `engines.scaling`: gradients are multiplied by v^(−power) before the clip and
    divided by it after the noise, v being second moments of public gradients at the starting point. 0 is none."""
    scaling_decay: float = 1.0
    """Share of v that stays when a released gradient is observed; 1 leaves v as the public data made it."""
    scaling_units: int = 64
    """How many public units v is measured on."""

    def __post_init__(self) -> None:
        self.name = canonical(self.name)
        self.engine()
        expect(self, "engine.scaling", 0 <= self.scaling <= 1, "a power in [0, 1]; 0 is no scaling")
        expect(self, "engine.scaling_decay", 0 < self.scaling_decay <= 1, "a share in (0, 1]")
        expect(self, "engine.scaling_units", self.scaling_units >= 1, "at least 1")

    def engine(self) -> AnyEngine:
        """The chosen engine.

        Raises:
          ConfigError: there is no such engine.
        """
        return engine_of(self.name)
