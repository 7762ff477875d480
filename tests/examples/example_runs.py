"""Where examples lie, and words that make a run of one small."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

SMALL = (
    *("corpus.people=60", "corpus.public_people=40", "corpus.evaluation_people=20", "corpus.tables=null"),
    *("model.layers=1", "model.width=16", "model.heads=1", "model.vocab_size=320", "start.steps=2"),
    *("start.expected_units=4", "trainer.steps=2", "trainer.expected_units=8", "trainer.population=null"),
    *("trainer.sample_rate=0.2", "evaluation.examples=2", "evaluation.overlap_examples=0", "tracking=off"),
)

Python = Callable[..., "subprocess.CompletedProcess[str]"]
