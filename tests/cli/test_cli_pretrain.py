"""A starting point is made from published text alone, goes on where it was ended, and is taken by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import SMALL, Run

from dp_train.models.published import find_published
from dp_train.training.loop import run_steps

WORDS = (*SMALL, "start=public", "start.steps=3", "start.expected_units=4")


def test_a_starting_point_that_was_made_is_what_a_run_starts_from(folder: Path, cli: Run) -> None:
    made = cli("pretrain", *WORDS, "trainer.seed=987654321", "--to", "mine")
    assert made.code == 0, made.err
    assert "start.name=mine" in made.out
    assert "987654321" not in (folder / "mine" / "facts.json").read_text()
    facts = json.loads((folder / "mine" / "facts.json").read_text())
    assert facts["command"] == " ".join(["dp-train pretrain", *WORDS])
    assert facts["steps"] == 3
    assert facts["scores"]["perplexity"] > 0

    ended = cli("train", *SMALL, "start=published", "start.name=mine", "tracking=off")
    assert ended.code == 0, ended.err
    result = json.loads(next(folder.glob("runs/*/*/result.json")).read_text())
    assert result["starting_point"] == facts["weights"]
    assert not result["unknown_start"]

    again = cli("pretrain", *WORDS, "--to", "mine")
    assert again.code == 7
    assert "exists already" in again.err


def test_nothing_private_is_opened(folder: Path, cli: Run) -> None:
    made = cli("pretrain", *WORDS, "corpus=jsonl", "corpus.private=not_there.jsonl", "--to", "mine")
    assert made.code == 0, made.err
    assert json.loads((folder / "mine" / "facts.json").read_text())["text"] == "synthetic-public-40"


def test_one_that_was_ended_goes_on(folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(state: object, *rest: object) -> object:
        seen.append(state.step)  # type: ignore[attr-defined]
        return run_steps(state, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("dp_train.training.trainer.run_steps", counted)
    assert cli("pretrain", *WORDS, "--to", "whole").code == 0

    saves = iter(range(1000))

    def killed(self: object, state: object) -> None:
        if next(saves) == 1:
            raise KeyboardInterrupt
        return save(self, state)  # type: ignore[arg-type]

    from dp_train.training.checkpoint import CheckpointFolder

    save = CheckpointFolder.save
    words = (*WORDS, "start.cache=other")
    monkeypatch.setattr(CheckpointFolder, "save", killed)
    assert cli("pretrain", *words, "--to", "resumed").code == 130
    monkeypatch.setattr(CheckpointFolder, "save", save)
    assert cli("pretrain", *words, "--to", "resumed").code == 0
    assert not list(folder.glob("other/*.unfinished"))
    assert find_published("resumed").weights == find_published("whole").weights


@pytest.mark.parametrize("word", ["start=none", "start=published"])
def test_what_trains_no_starting_point_is_refused(folder: Path, cli: Run, word: str) -> None:
    ended = cli("pretrain", *SMALL, word, "--to", "mine")
    assert ended.code == 2
    assert "expected start=public" in ended.err
    assert not (folder / "mine").exists()
