"""Runs that several processes share, as their test starts them in each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from letters import KEY, NOW, ChatOf, LetterModel, LetterTask, consent_events, trainer_of
from numpy.typing import NDArray
from torch import Tensor, nn

from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.registry import ConsentRegistry
from dp_train.engines import units
from dp_train.engines.base import EngineName, MicroBatch
from dp_train.engines.noise import SeededNoise
from dp_train.engines.parts import shares
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.units import Units, build_units
from dp_train.training import dealing, loop
from dp_train.training.batches import UnitBatches
from dp_train.training.callbacks import PrivateStep, Result, StepEnd
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.optimizers import adamw, linear
from dp_train.training.seeds import Seeds

PLAN = PrivacyPlan(
    sample_rate=0.25, expected_units=10, steps=12, delta=1e-5, clip_norm=0.5, noise_multiplier=1.0, rows_per_unit=2
)
PEOPLE = 40


def units_of(people: int = PEOPLE) -> Units:
    """Units of consented people, through the real gate."""
    purpose = Purpose.TRAIN_CHAT_COMPOSE
    corpus = gate(
        ChatOf(people),
        ConsentRegistry(consent_events(people, purpose), key=KEY).snapshot(as_of=NOW),
        ConsentPolicy(purpose=purpose),
    )
    return build_units(LetterTask().examples(corpus), unit=Unit.USER, rows_per_unit=2)


@dataclass(frozen=True)
class Shared:
    """What a test asks of a run, the same in every process but for what `at` names.

    Attributes:
      stop: the step after which process 0 gets SIGINT. kill: (process, step) at which it is killed.
      hang: the process that stops to answer at step 3. only: what is wrong in process 1 alone, by name.
    """

    plan: PrivacyPlan = PLAN
    folder: Path | None = None
    ledger: str | None = None
    engine: EngineName = EngineName.NAIVE
    stop: int | None = None
    kill: tuple[int, int] | None = None
    hang: int | None = None
    only: str = ""
    seeds: bool = True
    dropout: float = 0.0
    wait_seconds: float = 200.0
    people: int = PEOPLE
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What a process had at the end."""

    result: Result
    weights: Tensor
    units: list[int]
    heard: int


class Hears:
    """Keeps what a run told this process."""

    def __init__(self, stop: int | None) -> None:
        self.units: list[int] = []
        self.heard = 0
        self._stop = stop

    def on_private_step(self, step: PrivateStep) -> None:
        self.units.append(step.record.units)

    def on_step(self, step: StepEnd) -> None:
        self.heard += 1
        if step.step == self._stop:
            os.kill(os.getpid(), signal.SIGINT)


class Masked(LetterModel):
    """With dropout."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.masks = nn.Dropout(rate)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.output(self.masks(self.embedding(ids)))
        return logits


def train(asked: Shared) -> Trained:
    """Run it, or this process' part of it."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    model = Masked(asked.dropout) if asked.dropout else LetterModel()
    if rank and asked.only == "weights":
        nn.init.zeros_(model.output.weight)  # where it begins does not matter: that is the first process' to say
    settings: dict[str, Any] = {
        "optimizer": adamw(lr=0.05),
        "schedule": linear(),
        "engine": asked.engine,
        "checkpoint_every": 3,
        "microbatch_rows": 8,
        "checkpoint": CheckpointFolder(asked.folder) if asked.folder else None,
        "wait_seconds": asked.wait_seconds,
    }
    hears = Hears(asked.stop)
    settings |= {"callbacks": [hears], **asked.settings}
    if rank and asked.only == "optimizer":
        settings["optimizer"] = adamw(lr=0.06)
    people = asked.people + (rank > 0 and asked.only == "people")
    trainer = trainer_of(model, LetterTask(), asked.plan, **settings)
    _plant(asked, rank)
    found, reservation = units_of(people), None
    if asked.ledger is not None and (rank == 0 or asked.only == "reservation"):
        ledger = Ledger.open(asked.ledger)
        lines = ledger.standing(found.population).lines
        if lines:
            reservation = ledger.take_up(lines[0].reservation, asked.plan)
        else:
            reservation = ledger.reserve(asked.plan, found.population)
    result = trainer.fit(found, reservation=reservation, seeds=Seeds.fixed_for_test(3) if asked.seeds else None)
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return Trained(result, weights, hears.units, hears.heard)


def _plant(asked: Shared, rank: int) -> None:
    if asked.kill is not None and rank == asked.kill[0]:
        _at(asked.kill[1], lambda: os.kill(os.getpid(), signal.SIGKILL))
    if asked.hang == rank and rank:
        _at(3, lambda: time.sleep(3 * asked.wait_seconds))
    if rank and asked.only in _PLANTS:
        _PLANTS[asked.only]()


def _half_the_noise() -> None:
    honest = SeededNoise.add

    def add(self: SeededNoise, tensor: Tensor, std: float, **where: int) -> None:
        honest(self, tensor, 0.5 * std, **where)

    SeededNoise.add = add  # type: ignore[assignment,method-assign]


def _noise_for_the_rest_too() -> None:
    honest = units.add_in_parts

    def add(noise: Any, tensors: Any, parts: Any, std: float, *, step: int) -> None:
        honest(noise, tensors, shares([tensor.numel() for tensor in tensors], 1)[0], std, step=step)

    units.add_in_parts = add


def _other_draw(change: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Callable[[], None]:
    def plant() -> None:
        honest = UnitBatches.__call__

        def cut(self: UnitBatches, draw: NDArray[np.int64]) -> Iterator[MicroBatch]:
            private = isinstance(self._encoded._units, Units)  # and not the rows of the self-check
            return honest(self, change(draw) if private else draw)

        UnitBatches.__call__ = cut  # type: ignore[method-assign]

    return plant


def _dealt_otherwise() -> None:
    honest = dealing.deal
    dealing.deal = lambda draw, cost, hands: honest(draw, cost, hands)[::-1]


def _weights_moved() -> None:
    honest = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, closure: Any = None) -> Any:
        found = honest(self, closure)
        with torch.no_grad():
            self.param_groups[0]["params"][0].add_(1e-3)
        return found

    torch.optim.AdamW.step = step  # type: ignore[method-assign]


_PLANTS: dict[str, Callable[[], None]] = {
    "half the noise": _half_the_noise,
    "noise for the rest too": _noise_for_the_rest_too,
    "somebody else": _other_draw(lambda draw: (draw + 1) % PEOPLE),
    "one left out": _other_draw(lambda draw: draw[1:]),
    "dealt otherwise": _dealt_otherwise,
    "weights moved": _weights_moved,
}
"""What goes wrong in process 1 alone."""


def _at(step: int, action: Callable[[], object]) -> None:
    """Do something when the step begins."""
    honest = loop.RunState.draw

    def draw(self: loop.RunState) -> Any:
        if self.step == step:
            action()
        return honest(self)

    loop.RunState.draw = draw  # type: ignore[method-assign]
