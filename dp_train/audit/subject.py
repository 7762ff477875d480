"""What is audited: a run's own trainer at its start, and data that differ in one person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dp_train.engines.base import Engine
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training.callbacks import Callback
from dp_train.training.charge import Charge
from dp_train.training.method import Setup
from dp_train.training.opening import open_run
from dp_train.training.run_state import RunState
from dp_train.training.seeds import Seeds
from dp_train.training.trainer import Trainer


class MakeTrainer(Protocol):
    """Makes the run's trainer under another plan, its model set back to where the run began."""

    def __call__(
        self,
        plan: PrivacyPlan,
        *,
        checkpoint: Path | None = None,
        callbacks: Sequence[Callback] = (),
        self_check: bool = False,
    ) -> Trainer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Units of conversations, and of the same ones in which one person says nothing. Private unless published."""

    whole: Units
    emptied: Units


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A configured run as an audit needs it.

    Attributes:
      make: its trainer, at its start.
      plan: what it is to do. units: what it trains on; private.
      public: published text, cut into units as the plan says, and the same with one person less.
      neighbours: conversations of the run with and without one person's words; private.
    """

    make: MakeTrainer
    plan: PrivacyPlan
    units: Units
    public: Neighbours
    neighbours: Sequence[Neighbours]


@contextmanager
def attached(setup: Setup, units: Units) -> Iterator[tuple[RunState, Engine]]:
    """The engine of a run as its loop makes it, on fresh seeds; nothing is trained and nothing is kept."""
    state = open_run(setup, units, Charge(None), Seeds.fresh())
    engine = state.build_engine()
    try:
        yield state, engine
    finally:
        engine.detach()
        state.watch.detach()
        for parameter in setup.model.parameters():
            parameter.grad = None


__all__ = ["MakeTrainer", "Neighbours", "Subject", "attached"]
