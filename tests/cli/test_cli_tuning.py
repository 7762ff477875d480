"""Settings are chosen on published text: nothing private is read, and nobody's budget is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import SMALL, Run

from dp_train.conversations import Example
from dp_train.corpora import synthetic
from dp_train.corpora.synthetic import Population
from dp_train.errors import DataError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.runs.prepare import _expect_apart


def test_tuning_on_published_text_reads_nobody_and_spends_nothing(
    cli: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Population] = []
    genuine = synthetic.SyntheticCorpus

    class Noted(genuine):  # type: ignore[misc,valid-type]
        def conversations(self):  # type: ignore[no-untyped-def]
            made.append(self.population)
            return super().conversations()

    monkeypatch.setattr(synthetic, "SyntheticCorpus", Noted)
    ended = cli("train", *SMALL, "tracking=off", "corpus.train_on=PUBLIC")
    assert ended.code == 0, ended.err
    assert "nobody's budget is touched" in ended.out
    assert made
    assert Population.PRIVATE not in made
    ledger = Ledger.peek(f"sqlite:///{folder / 'dp_train.db'}")
    assert ledger is None or not ledger.book().lines
    (card,) = folder.glob("runs/*/*/card.json")
    document = json.loads(card.read_text())
    assert document["ledger"].startswith("this run learnt from published text alone")
    assert document["consent"]["purpose"] == "publish"


@pytest.mark.parametrize("task", ["compose", "summary"])
def test_tuning_is_one_word(cli: Run, folder: Path, task: str) -> None:
    small = ("corpus.public_people=40", "trainer.expected_units=8", "trainer.steps=4")
    ended = cli("plan", f"experiments={task}/tune_public", *small, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["ledger"] == {"in_ledger": False, "epsilon_spent": 0.0}
    # What is lost on the way is for the eyes of whoever asks, and in nothing that is kept.
    assert "what becomes of consented words" in ended.err
    assert ("privacy.rows_per_unit=" if task == "compose" else "privacy.max_contributions=") in ended.err


def test_nobody_is_scored_who_is_trained_on() -> None:
    def example(*owners: str) -> Example:
        return Example(example_id="-".join(owners), prompt="", target="word", owners=frozenset(owners))

    _expect_apart(frozenset("ab"), [example("c"), example("d", "e")])
    with pytest.raises(DataError, match="is trained on, too"):
        _expect_apart(frozenset("ab"), [example("c"), example("d", "b")])
