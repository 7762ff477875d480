"""Words that make a run small, and what a call of the command line gave."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dp_train.training.checkpoint import CheckpointFolder, TrainState

SMALL = (
    "experiments=compose/quickstart",
    "corpus.people=60",
    "corpus.public_people=40",
    "corpus.evaluation_people=20",
    "model.layers=1",
    "model.width=16",
    "model.heads=1",
    "model.vocab_size=320",
    "task.max_length=48",
    "start.steps=2",
    "start.expected_units=4",
    "privacy.bands=1",
    "trainer.steps=3",
    "trainer.expected_units=8",
    "trainer.population=null",
    "trainer.sample_rate=0.2",
    "trainer.threads=1",
    "evaluation.examples=3",
    "evaluation.curve_examples=1",
    "evaluation.samples=1",
    "tradeoff.epsilons=[2,8]",
    "tradeoff.best.learning_rates=[1e-3]",
    "tradeoff.best.rows=8",
    "study.workers=1",
)


@dataclass(frozen=True)
class Ended:
    """How a call of `dp-train` ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def signal_at_checkpoint(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """Send this process a signal once, when it has written the first checkpoint of a step."""
    save = CheckpointFolder.save
    sent: list[int] = []

    def save_and_send(self: CheckpointFolder, state: TrainState) -> Path:
        path = save(self, state)
        if state.step and not sent:
            sent.append(state.step)
            signal.raise_signal(number)
        return path

    monkeypatch.setattr(CheckpointFolder, "save", save_and_send)
