"""Counts of what files hold reach the error stream of `plan`, `validate` and `train`, and nothing that stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import SMALL, Run

FAR = ("trainer.sample_rate=null", "trainer.population=2000")


@pytest.mark.parametrize("verb", ["plan", "validate", "train"])
def test_a_far_population_is_said_on_the_error_stream_alone(folder: Path, cli: Run, verb: str) -> None:
    ended = cli(verb, *SMALL, *FAR)
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.err.splitlines() if "trainer.population=2000 is far from the" in line]
    said = line.partition(" that are learnt from")[0].rpartition("from ")[2]
    assert said.endswith(" people")
    for words in (said, "is far from"):
        assert words not in ended.out
        for path in folder.rglob("*"):
            assert not path.is_file() or words.encode() not in path.read_bytes(), path
