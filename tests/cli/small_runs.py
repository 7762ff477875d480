"""Words that make a run small, and what a call of the command line gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    "study.workers=1",
)


@dataclass(frozen=True)
class Ended:
    """How a call of `dp-train` ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]
