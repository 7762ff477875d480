"""Examples as their readers run them, and the words that make a run small."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

SMALL = (
    *("corpus.people=60", "corpus.public_people=40", "corpus.evaluation_people=20", "corpus.tables=null"),
    *("model.layers=1", "model.width=16", "model.heads=1", "model.vocab_size=320", "start.steps=2"),
    *("start.expected_units=4", "trainer.steps=2", "trainer.expected_units=8", "trainer.population=null"),
    *("trainer.sample_rate=0.2", "evaluation.examples=2", "evaluation.overlap_examples=0", "tracking=off"),
)

Python = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def python(tmp_path: Path) -> Python:
    """Run Python in an empty working folder, with `path` before everything else that can be imported."""

    def run(*words: str, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
        found = os.pathsep.join([*map(str, path), str(EXAMPLES.parent)])
        environment = {**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def dp_train(python: Python) -> Python:
    """Call the command line in an empty working folder, as a process of its own."""

    def run(*words: str, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
        return python("-m", "dp_train.cli.main", *words, path=path)

    return run
