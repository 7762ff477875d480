"""Laws of `dp-train init`: three commands to a private model, nothing granted, nothing counted in a file, none lost."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_runs import SMALL, Run

from dp_train.cli.load_config import compose
from dp_train.consent.events import Purpose
from dp_train.consent.imports import events_of_file
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.corpora.readers import read_jsonl
from dp_train.corpora.sample import CONSENT, CONVERSATIONS, KEY, write_sample
from dp_train.privacy.contribution_bounding import Ownership
from dp_train.runs.proposal import coarse, coarse_below, delta_for, propose
from dp_train.runs.survey import Rows

FAST = [word for word in SMALL if word.partition("=")[0].split(".")[0] in ("model", "start", "evaluation")]
FAST += ["corpus.public_people=40", "task.max_length=48", "trainer.steps=2", "trainer.threads=1", "tracking=off"]
SERIES = {int(step * 10**power) for power in range(10) for step in (1, 2, 5)}


@pytest.fixture
def talks(folder: Path) -> str:
    """The sample's conversations alone, as someone's own file."""
    (folder / "talks.jsonl").write_bytes(CONVERSATIONS.read_bytes())
    return "talks.jsonl"


def as_table(path: Path, *, text: str = "body", extra: str = "mood") -> None:
    """Threads as csv with other names and a column more, without turn, org_id and kind."""
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["thread", "sent", "who", text, extra])
        for each in read_jsonl(CONVERSATIONS).conversations():
            if each.kind.value == "thread":
                for turn in each.turns:
                    row = (each.conversation_id, each.created_at.isoformat(), turn.person_id, turn.text, "PLANTED")
                    writer.writerow(row)


COLUMNS = ("--column", "conversation_id=thread", "--column", "created_at=sent", "--column", "person_id=who")
CONSTANTS = ("--constant", "org_id=acme", "--constant", "kind=thread")


def answer(path: Path) -> None:
    """Fill in the template as a person would whose people all agreed."""
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        row["event_state"] = "ConsentGiven"
        row["age_band"] = "adult" if row["person_id"] else ""
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_after_the_answers_validate_and_train_work_with_nothing_edited(folder: Path, cli: Run, talks: str) -> None:
    ended = cli("init", talks)
    assert ended.code == 0, ended.err
    ended = cli("validate", "experiments=own", *FAST)
    assert ended.code == 3
    assert "no conversation passes the gate" in ended.err
    answer(folder / "consent.csv")
    assert cli("validate", "experiments=own", *FAST).code == 0
    ended = cli("train", "experiments=own", *FAST)
    assert ended.code == 0, ended.err
    assert "ε=8.00" in ended.out


def test_a_table_with_other_names_and_a_column_more_is_learnt_from_without_it(folder: Path, cli: Run) -> None:
    as_table(folder / "chat.csv")
    ended = cli("init", "chat.csv", *COLUMNS, "--column", "text=body", *CONSTANTS)
    assert ended.code == 0, ended.err
    assert "kept out, for nothing reads them: mood" in ended.err
    assert re.search(r"\d+ of these people have no name in the files.*--column display_name=NAME", ended.err)
    answer(folder / "consent.csv")
    ended = cli("validate", "experiments=own", *FAST)
    assert ended.code == 0, ended.err


def test_several_files_are_one_population(folder: Path, cli: Run) -> None:
    lines = CONVERSATIONS.read_text().splitlines(keepends=True)
    (folder / "meetings.jsonl").write_text("".join(lines[:5]))
    as_table(folder / "chat.csv")
    words = ("init", "meetings.jsonl", "chat.csv", *COLUMNS, "--column", "text=body", *CONSTANTS)
    ended = cli(*words)
    assert ended.code == 0, ended.err
    recipe, _ = compose(["experiments=own"])
    found = recipe.corpus.corpora(recipe.task.spec().kinds)["private"]
    assert sorted(each.conversation_id for each in found.conversations()) == sorted(
        each.conversation_id for each in read_jsonl(CONVERSATIONS).conversations()
    )


def test_the_template_grants_nothing(folder: Path, cli: Run, talks: str) -> None:
    for task in ("meeting_summary", "chat_compose"):
        assert cli("init", talks, "--task", task, "--force").code == 0
        key = PrincipalKey.load("runs/principal.key")
        events = list(events_of_file("consent.csv", key))
        assert len(events) > 10
        now = max(event.recorded_time for event in events)
        frozen = ConsentRegistry(events, key=key).snapshot(as_of=now)
        for event in events:
            for purpose in Purpose:
                assert frozen.says(event.pii_principal_id or "", purpose).value != "granted"
    assert Path("consent.csv").stat().st_mode & 0o077 == 0


def test_counts_are_for_the_eyes_and_in_no_file(folder: Path, cli: Run, talks: str) -> None:
    ended = cli("init", talks)
    assert "have no name" not in ended.err  # the sample has a roster
    assert re.search(r"rows of chat_compose\s+24", ended.err)
    assert "24" not in ended.out
    values = yaml.safe_load(Path("experiments/own.yaml").read_text())
    trainer, privacy = values["trainer"], values["privacy"]
    assert {trainer["population"], trainer["expected_units"]} <= SERIES
    assert "rounding is what\n# keeps the private count out" in Path("experiments/own.yaml").read_text()
    assert privacy["delta"] < 1 / trainer["population"]
    people = {turn.person_id for each in read_jsonl(CONVERSATIONS).conversations() for turn in each.turns}
    assert not any(person in Path("experiments/own.yaml").read_text() for person in people)


def test_nothing_is_overwritten_unasked_and_a_key_never(folder: Path, cli: Run, talks: str) -> None:
    assert cli("init", talks).code == 0
    paths = [Path("experiments/own.yaml"), Path("consent.csv"), Path("runs/principal.key")]
    before = [path.read_bytes() for path in paths]
    ended = cli("init", talks)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "--name OTHER" in ended.err
    ended = cli("init", talks, "--name", "other")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "consent.csv exists and may hold answers; --consent consent.csv" in ended.err
    assert [path.read_bytes() for path in paths] == before
    assert cli("init", talks, "--name", "other", "--consent", "consent.csv").code == 0
    assert [path.read_bytes() for path in paths] == before
    assert cli("init", talks, "--force").code == 0
    assert paths[2].read_bytes() == before[2]
    assert paths[1].read_bytes() != before[1]


def test_events_that_there_are_work_under_their_key_and_no_other(folder: Path, cli: Run, talks: str) -> None:
    write_sample(folder)
    ended = cli("init", talks, "--consent", CONSENT.name, "--key", KEY.name)
    assert ended.code == 0, ended.err
    assert re.search(r"\d+ of \d+ people have events", ended.err)
    ended = cli("init", talks, "--consent", CONSENT.name, "--key", "another.key", "--name", "second")
    assert (ended.code, "no event of anyone in the files" in ended.err) == (4, True)
    assert not Path("experiments/second.yaml").exists()


BROKEN = {
    "broken.jsonl": ("{", 3, "broken.jsonl row 11: not JSON"),
    "empty.jsonl": ("", 3, "empty.jsonl: holds no conversation"),
    "empty.csv": ("", 3, "empty.csv: no header"),
    "talks.xlsx": ("PK", 3, "ends in '.xlsx'; expected .jsonl, .csv, .parquet"),
    "gone.jsonl": (None, 3, "No such file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_read_is_one_line_and_writes_nothing(folder: Path, cli: Run, name: str) -> None:
    text, code, said = BROKEN[name]
    if text is not None:
        (folder / name).write_text((CONVERSATIONS.read_text() if text == "{" else "") + text)
    ended = cli("init", name)
    assert (ended.code, ended.err.count("\n")) == (code, 1), ended.err
    assert said in ended.err
    assert {path.name for path in folder.iterdir()} <= {name}


def test_a_missing_column_names_those_that_nothing_reads(folder: Path, cli: Run) -> None:
    as_table(folder / "chat.csv")
    ended = cli("init", "chat.csv", *COLUMNS, *CONSTANTS)
    assert (ended.code, ended.err.count("\n")) == (3, 1)
    assert "column text is missing" in ended.err
    assert "nothing reads body, mood: --column FIELD=NAME" in ended.err
    assert "PLANTED" not in ended.err
    assert "--constant org_id=VALUE" in cli("init", "chat.csv", *COLUMNS, "--column", "text=body").err
    ended = cli("init", "chat.csv")  # perhaps a table without a header: nothing of it is shown
    assert "sent" not in ended.err


WORDS = {
    ("--column", "body"): "expected FIELD=…, such as --column text=body",
    ("--column", "txt=body"): "corpus.columns.names=",
    ("--column", "text=a", "--column", "text=b"): "--column text=… comes twice",
    ("--constant", "text=hi"): "values of org_id, kind",
    ("--name", "../own"): "expected letters, digits",
    ("--consent", "gone.jsonl"): "--consent gone.jsonl: no such file; expected one that is there, or a .csv",
    ("talks.jsonl",): "a file is named twice",
}


@pytest.mark.parametrize("words", WORDS)
def test_a_wrong_word_is_one_line(folder: Path, cli: Run, talks: str, words: tuple[str, ...]) -> None:
    ended = cli("init", talks, *words)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert WORDS[words] in ended.err
    assert {path.name for path in folder.iterdir()} == {talks}


def test_a_file_that_is_no_key_is_refused_before_anything_is_written(folder: Path, cli: Run, talks: str) -> None:
    (folder / "wrong.key").write_text("hello\n")
    (folder / "wrong.key").chmod(0o600)
    ended = cli("init", talks, "--key", "wrong.key")
    assert (ended.code, "not a key" in ended.err) == (4, True)
    assert {path.name for path in folder.iterdir()} == {talks, "wrong.key"}


def test_a_conversation_that_comes_twice_is_refused(folder: Path, cli: Run) -> None:
    (folder / "twice.jsonl").write_text(CONVERSATIONS.read_text() * 2)
    ended = cli("init", "twice.jsonl")
    assert (ended.code, "a conversation comes twice" in ended.err) == (3, True)


@given(st.integers(1, 10**8))
def test_a_coarse_number_is_of_the_series_and_near(number: int) -> None:
    assert coarse(number) in SERIES
    assert 0.63 < coarse(number) / number < 1.6
    assert coarse_below(number) <= number
    assert coarse_below(number) in SERIES
    assert delta_for(number) < 1 / (6 * number)


@given(people=st.integers(1, 3000), each=st.integers(1, 20))
def test_whatever_is_counted_the_proposal_is_of_coarse_numbers_that_a_recipe_takes(people: int, each: int) -> None:
    rows = Rows()
    for person in range(people):
        for number in range(min(each, 1 + person % 20)):
            rows.owners.add(f"{person}/{number}", [f"p{person}"])
            rows.ids.append(f"{person}/{number}")
    found = propose("chat_compose", rows)
    assert {found.population, found.expected_units} <= SERIES
    assert found.rows_per_unit in (1, 2, 4, 8)
    assert found.expected_units <= found.population
    assert found.bands * found.sample_rate <= 1
    assert found.delta < 1 / people


def test_rows_of_several_people_get_a_bound_and_a_rate() -> None:
    rows = Rows(owners=Ownership())
    for number in range(300):
        rows.owners.add(f"m{number}", {f"p{(number * step) % 120}" for step in (1, 3, 7)})
        rows.ids.append(f"m{number}")
    found = propose("meeting_summary", rows)
    assert found.shared
    assert found.population in SERIES
    assert found.max_contributions in (1, 2, 4, 8)
    assert json.dumps(found.sample_rate)
