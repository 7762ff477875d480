"""A directory of the organisation from the command line: the no of a person in it counts wherever they are named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from small_runs import SMALL, Run

from dp_train.consent.principals import PrincipalKey
from dp_train.corpora.sample import write_sample

WORDS = (
    *SMALL,
    "tracking=off",
    "corpus=jsonl",
    "corpus.private=mine/conversations.jsonl",
    "consent.events=mine/consent.jsonl",
    "consent.key=mine/principals.key",
)


def removed(out: str) -> int:
    """Turns of the private population that did not pass."""
    (row,) = [line for line in out.splitlines() if "turns removed" in line]
    return int(re.findall(r"\d+", row.replace(",", ""))[0])


@pytest.fixture
def named(folder: Path) -> Path:
    """A meeting that speaks of Zelda Quux, who is on no roster and refused."""
    write_sample("mine")
    talks = Path("mine/conversations.jsonl")
    rows = [json.loads(line) for line in talks.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["turns"][0]["text"] += " Zelda Quux is ill."
    talks.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    event = {
        "record_id": "zelda-1",
        "pii_principal_id": PrincipalKey.load("mine/principals.key").pseudonym("zelda"),
        "org_id": rows[0]["org_id"],
        "entity_role": "self",
        "purpose": ["train_meeting_summary", "train_chat_compose", "publish"],
        "content_kind": ["transcript", "chat"],
        "event_state": "ConsentRefused",
        "event_time": "2024-06-01T00:00:00+00:00",
        "recorded_time": "2024-06-01T00:00:00+00:00",
        "collection_method": "form",
    }
    with Path("mine/consent.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(event | {"seq": 1000}) + "\n")
    Path("people.csv").write_text("person_id,name\nzelda,Zelda Quux\n", encoding="utf-8")
    return folder


def test_the_no_of_a_person_of_the_directory_counts_where_they_are_named(named: Path, cli: Run) -> None:
    without = cli("validate", *WORDS)
    assert without.code == 0, without.err
    ended = cli("validate", *WORDS, "consent.directory=people.csv")
    assert ended.code == 0, ended.err
    assert removed(ended.out) > removed(without.out)


def test_a_directory_of_somebody_else_changes_nothing(named: Path, cli: Run) -> None:
    Path("people.csv").write_text("person_id,name\nzelda,Anton Other\n", encoding="utf-8")
    ended = cli("validate", *WORDS, "consent.directory=people.csv")
    assert ended.code == 0, ended.err


def test_a_directory_that_cannot_be_read_ends_the_run_in_one_line(named: Path, cli: Run) -> None:
    ended = cli("validate", *WORDS, "consent.directory=nobody.csv")
    assert ended.code != 0
    assert ended.err.count("\n") == 1
    assert "consent.directory: nobody.csv" in ended.err
