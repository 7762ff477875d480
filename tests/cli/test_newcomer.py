"""A newcomer types what README and the officer's page say, line by line, in an empty folder, on either database."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_runs import Run

from dp_train.consent.events import Purpose
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.store import ConsentStore
from dp_train.corpora.sample import write_sample
from dp_train.store.database import Database, absolute_url

ROOT = Path(__file__).parents[2]


def lines_under(page: str, heading: str) -> list[list[str]]:
    """Return the words of each command in the first fence under a heading, in order."""
    text = (ROOT / page).read_text().split(f"## {heading}\n", 1)[1]
    (fence,) = re.findall(r"```console\n(.*?)```", text, re.DOTALL)[:1]
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in fence.splitlines()]


@pytest.fixture(params=["sqlite", "postgresql"])
def own_store(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder, and the address of the store that a newcomer chose: none for SQLite."""
    monkeypatch.delenv("DP_TRAIN_STORE", raising=False)
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


def test_a_no_an_organisations_no_and_an_export_from_readme_alone(
    folder: Path, cli: Run, own_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = lines_under("README.md", "A no, on the first day")
    assert commands[0][0] == "export"
    if own_store:
        monkeypatch.setenv(commands[0][1].partition("=")[0], own_store)
    for words in commands[1:]:
        assert words[0] == "dp-train"
        ended = cli(*words[1:])
        assert ended.code == 0, f"{words}: {ended.err}"
    key = PrincipalKey.load("runs/principal.key")
    database = Database(absolute_url(None, folder))
    store = ConsentStore(database)
    frozen = store.snapshot(as_of=datetime.now(UTC), key=key)
    assert frozen.says(key.pseudonym("u017"), Purpose.TRAIN_MEETING_SUMMARY).value == "withdrawn"
    assert [event.org_id for event in store.events() if event.pii_principal_id is None] == ["acme"]
    database.close()
    person = json.loads(Path("person.json").read_text())
    assert (person["pseudonyms"], len(person["events"]), len(person["receipts"])) == ([key.pseudonym("u017")], 1, 1)
    assert json.loads(Path("org.jsonl").read_text())["statement"]["state"] == "ConsentWithdrawn"
    assert not own_store or not list(folder.glob("*.db"))


def test_the_officers_first_page_runs_as_it_stands(
    folder: Path, cli: Run, own_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *commands = lines_under("docs/officer.md", "Try it")
    assert first == ["python", "-m", "dp_train.corpora.sample", "try", "&&", "cd", "try"]
    write_sample(folder / "try")
    monkeypatch.chdir(folder / "try")
    if own_store:
        monkeypatch.setenv("DP_TRAIN_STORE", own_store)
    for words in commands:
        ended = cli(*words[1:])
        assert ended.code == 0, f"{words}: {ended.err}"
