"""How a bug is planted in a run, who may notice it, and how it is taken out again.

Plants change code of this process: plant them within `planted` alone, which takes them out again, and never where a run
that counts goes on beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from dp_train.engines.base import Engine, EngineName, MicroBatch, StepRecord
from dp_train.engines.build import build_engine
from dp_train.privacy.plan import Unit
from dp_train.training import run_state
from dp_train.training.batches import Packing
from dp_train.training.callbacks import Callback

SELF_CHECK, PLAN = "the self-check, before data is read", "the plan, before data is read"
ENCODING = "two encodings of a sample, before ε is spent"
NOISE, OPTIMIZER, DRAW, STILL, COMPANY, HELD = (
    "the look at the noise",
    "the look at the optimizer",
    "the look at the draw",
    "the digests of what no noise reaches",
    "the look at a unit alone",
    "the hold on weights around callbacks",
)


class Patch(Protocol):
    """Replaces attributes; pytest's `monkeypatch` is one, `Patches` another."""

    def setattr(self, target: Any, name: str, value: object) -> None: ...


class Patches:
    """Replaces attributes until `undo`."""

    def __init__(self) -> None:
        self._held: list[tuple[Any, str, object]] = []

    def setattr(self, target: Any, name: str, value: object) -> None:
        """Replace an attribute of a module or class, and remember what it was."""
        self._held.append((target, name, target.__dict__[name]))
        setattr(target, name, value)

    def undo(self) -> None:
        """Put everything back, the last first."""
        while self._held:
            target, name, value = self._held.pop()
            setattr(target, name, value)


@dataclass
class Run:
    """What a plant may change."""

    model: nn.Module
    task: Any
    patch: Patch
    unit: Unit = Unit.USER
    schedule: Callable[[int, int], float] = field(default=lambda step, steps: 1.0)
    callbacks: list[Callback] = field(default_factory=list)


@dataclass(frozen=True)
class Plant:
    """A bug, how it is planted, and who notices."""

    name: str
    by: str
    plant: Callable[[Run], None]
    not_on: Callable[[EngineName, Packing], bool] = lambda engine, packing: False
    """Where it is no bug."""


@contextmanager
def planted(plant: Plant | None, model: nn.Module, task: Any) -> Iterator[Run]:
    """Plant a bug, or none, and take it out again on every way out."""
    patches = Patches()
    run = Run(model, task, patches)
    try:
        if plant is not None:
            plant.plant(run)
        yield run
    finally:
        patches.undo()


Change = Callable[[Engine, torch.optim.Optimizer, int], StepRecord]
"""What is done instead of the release of a step."""


class AlteredEngine:
    """The run's engine, not that of the self-check, with what it does altered."""

    def __init__(self, engine: Engine, optimizer: torch.optim.Optimizer, change: Change) -> None:
        self._engine, self._optimizer, self._change = engine, optimizer, change
        self.name = engine.name

    def accumulate(self, batch: MicroBatch) -> None:
        self._engine.accumulate(batch)

    def release(self, step: int) -> StepRecord:
        return self._change(self._engine, self._optimizer, step)

    def detach(self) -> None:
        self._engine.detach()


def alter_engine(run: Run, change: Change) -> None:
    """Do `change` instead of each release of the run's engine; the self-check's engine stays as it is."""

    def build(name: EngineName, *, optimizer: torch.optim.Optimizer, **rest: Any) -> AlteredEngine:
        return AlteredEngine(build_engine(name, optimizer=optimizer, **rest), optimizer, change)

    run.patch.setattr(run_state, "build_engine", build)
