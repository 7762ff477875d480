"""A consent verb makes no store in silence, and none where a no would reach no run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import Run

ENTERS = {
    "withdraw": ("withdraw", "u017"),
    "erase": ("erase", "u017"),
    "opt-out": ("opt-out", "--organisation", "acme"),
    "notice": ("notice", "notice.md"),
}
ASKS = {
    "status": ("status",),
    "verify": ("verify",),
    "impact": ("impact", "u017"),
    "dry run": ("withdraw", "u017", "--dry-run"),
    "resolve": ("resolve",),
    "export": ("export", "all.jsonl"),
    "overdue": ("overdue",),
    "notices": ("notice",),
    "backup": ("backup", "copy.db"),
    "report": ("report",),
}


@pytest.fixture(autouse=True)
def _notice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DP_TRAIN_STORE", raising=False)
    (folder / "notice.md").write_text("what people agree to")


@pytest.mark.parametrize("words", ENTERS.values(), ids=ENTERS)
def test_a_verb_that_enters_something_in_an_empty_folder_says_that_its_store_is_new(
    folder: Path, cli: Run, words: tuple[str, ...]
) -> None:
    ended = cli("consent", *words)
    assert ended.code == 0, ended.err
    assert [line for line in ended.err.splitlines() if line.startswith(f"new store: {folder / 'dp_train.db'};")]
    again = cli("consent", *words)
    assert (again.code, "new store" in again.err) == (0, False)


@pytest.mark.parametrize("words", ASKS.values(), ids=ASKS)
def test_a_verb_that_only_asks_makes_no_store(folder: Path, cli: Run, words: tuple[str, ...]) -> None:
    ended = cli("consent", *words)
    assert (ended.code, ended.err.strip().count("\n")) == (9, 0)
    assert "this verb makes none" in ended.err
    assert sorted(path.name for path in folder.rglob("*")) == ["notice.md"]


@pytest.mark.parametrize("words", ENTERS.values(), ids=ENTERS)
def test_beside_runs_of_another_store_nothing_is_entered(folder: Path, cli: Run, words: tuple[str, ...]) -> None:
    run = folder / "runs" / "day" / "r1"
    run.mkdir(parents=True)
    (run / "ledger.json").write_text(json.dumps({"head": "ab" * 32, "store": "/elsewhere/dp_train.db"}))
    ended = cli("consent", *words)
    assert (ended.code, "/elsewhere/dp_train.db" in ended.err) == (9, True)
    assert not (folder / "dp_train.db").exists()


@pytest.mark.parametrize("words", [ENTERS["withdraw"], ENTERS["erase"]], ids=["withdraw", "erase"])
def test_a_key_of_another_project_makes_no_store(
    folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    project, empty = folder / "project", folder / "empty"
    project.mkdir()
    empty.mkdir()
    monkeypatch.chdir(project)
    assert cli("consent", "withdraw", "u001").code == 0
    monkeypatch.chdir(empty)
    ended = cli("consent", *words, "--key", str(project / "runs" / "principal.key"))
    assert (ended.code, "belongs to a project whose store is" in ended.err) == (9, True)
    assert not list(empty.iterdir())


def test_a_second_store_is_filled_on_purpose_by_its_address_alone(folder: Path, cli: Run) -> None:
    assert cli("consent", "withdraw", "u017").code == 0
    assert cli("consent", "export", "all.jsonl").code == 0
    ended = cli("consent", "import", "all.jsonl", "--key", "runs/principal.key", "--store", "sqlite:///other.db")
    assert (ended.code, "new store" in ended.err) == (0, True)
    ended = cli("consent", "withdraw", "u018", "--store", "sqlite:///typo.db")
    assert (ended.code, (folder / "typo.db").exists()) == (9, False)
