"""Public corpora from the command line: loud, for research alone, and refused where they would mislead."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_runs import Run

from dp_train.cli.load_config import compose
from dp_train.corpora.adapters.benchmark import WARNING
from dp_train.errors import ConfigError, ConsentError, DataError
from dp_train.runs.folder import RunFolder
from dp_train.runs.populations import populations

REFUSED = {
    ("corpus=crd3",): "privacy.unit=user; expected example with corpus=crd3",
    ("corpus=dialogsum",): "corpus.source=dialogsum; expected another to train on",
    ("corpus=gitter", "corpus.research_only=false"): "did not consent to a product",
    ("corpus=gitter", "consent.events=events.jsonl"): "consent.events=events.jsonl; expected null with a public corpus",
    ("corpus=gitter", "consent.store=true"): "consent.store=true; expected false with a public corpus",
    ("corpus=gitter", "corpus.private=talks.jsonl"): "no file with corpus=gitter",
    ("corpus=qmsum", "corpus.evaluation_source=CRD3"): "expected dialogsum beside a public corpus",
    ("corpus=qmsum", "corpus.aliases=a.csv"): "null; Gitter's alone",
    ("corpus.research_only=true",): "corpus.research_only=true; expected false",
    ("corpus.evaluation_source=DIALOGSUM",): "expected dialogsum beside a public corpus",
    ("corpus.folder=x",): "null; public corpora alone have it",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_would_mislead_is_refused_in_one_line(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="config: ") as error:
        compose(words)
    assert REFUSED[words] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["gitter", "qmsum", "crd3"])
def test_a_corpus_that_is_not_here_is_one_line_with_the_remedy(source: str, folder: Path, cli: Run) -> None:
    ended = cli("validate", f"corpus={source}", "privacy.unit=EXAMPLE")
    assert ended.code == DataError.exit_code
    assert ended.err.count("\n") == 1
    assert "corpus.folder=PATH" in ended.err


def test_validate_counts_a_public_corpus_says_what_it_is_and_writes_nothing(folder: Path, cli: Run) -> None:
    words = "corpus=gitter", "task=chat_compose", f"corpus.folder={small_gitter(folder / 'chat')}"
    ended = cli("validate", *words)
    assert ended.code == 0
    assert WARNING in ended.out
    assert "conversations kept" in ended.out
    assert [path.name for path in folder.iterdir()] == ["chat"]


def test_the_gate_keeps_populations_apart_and_all_of_each(folder: Path) -> None:
    config, _ = compose(["corpus=gitter", "task=chat_compose", f"corpus.folder={small_gitter(folder / 'chat')}"])
    made = populations(config)
    assert made.evaluation is not None
    people = [
        {person for conversation in corpus.conversations() for person in conversation.people}
        for corpus in (made.private, made.public, made.evaluation)
    ]
    assert all(people)
    assert sum(map(len, people)) == len(set.union(*people))
    assert all(report.turns_removed == 0 for report in made.reports.values())


def test_a_model_of_a_public_corpus_is_not_promoted(folder: Path, finished: Path, cli: Run) -> None:
    run = RunFolder.find(str(finished))
    config = run.config.read_text()
    assert "research_only: false" in config
    changed = config.replace("source: embedded", "source: gitter").replace(
        "research_only: false", "research_only: true"
    )
    run.config.write_text(changed)
    try:
        ended = cli("promote", str(finished), "--dry-run")
    finally:
        run.config.write_text(config)
    assert ended.code == ConsentError.exit_code
    assert WARNING in ended.err


def small_gitter(folder: Path) -> Path:
    """Forty people who say hello to each other, before and after the day from which on people are evaluated."""
    folder.mkdir()
    with gzip.open(folder / "messages.jsonl.gz", "wt") as out:
        for start in (datetime(2015, 1, 1, tzinfo=UTC), datetime(2016, 9, 1, tzinfo=UTC)):
            for number in range(120):
                row = {
                    "room": "lobby",
                    "sent_at": (start + timedelta(minutes=7 * number)).isoformat(),
                    "user_id": f"user{number % 40}",
                    "username": f"nick{number % 40}",
                    "message_id": f"{start.year}-{number}",
                    "text": f"hello number {number}",
                }
                out.write(json.dumps(row) + "\n")
    return folder
