"""A store that was put back, cut, hashed anew or mixed up, and another working folder: nothing starts on it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from small_runs import SMALL, Run

from dp_train.cli.main import main
from dp_train.store.chain import GENESIS, row_hash

STORED = (*SMALL, "consent.store=true")
STORE = "dp_train.db"


def copied(source: Path, target: Path) -> None:
    """Copy a database whole, in the place of one that is there."""
    for end in ("", "-wal", "-shm"):
        target.with_name(f"{target.name}{end}").unlink(missing_ok=True)
    one, other = sqlite3.connect(source), sqlite3.connect(target)
    one.backup(other)
    one.close()
    other.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with one finished run by the consent store, a no after it, and copies of the store from before."""
    before = Path.cwd()
    working = tmp_path_factory.mktemp("project") / "p"
    working.mkdir()
    os.chdir(working)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("DP_TRAIN_STORE", None)
    people = [word for word in SMALL if not word.startswith("tradeoff")]
    try:
        assert main(["consent", "import", "--embedded", *people]) == 0
        copied(working / STORE, working / "before the run")
        assert main(["train", *STORED]) == 0
        copied(working / STORE, working / "before the no")
        assert main(["consent", "withdraw", "a person of no run"]) == 0
        yield working
    finally:
        os.chdir(before)


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same at the same address, for one test: heads are of a store at its address."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    copied(trained / STORE, tmp_path / STORE)
    monkeypatch.chdir(trained)
    yield trained
    shutil.rmtree(trained / "runs")
    shutil.copytree(tmp_path / "runs", trained / "runs")
    copied(tmp_path / STORE, trained / STORE)


def edit(statements: Callable[[sqlite3.Connection], object]) -> None:
    connection = sqlite3.connect(STORE)
    with connection:
        statements(connection)
    connection.close()


def older(name: str) -> None:
    copied(Path(name), Path(STORE))


def cut_events() -> None:
    """Take the last event out, with its person and its receipt: nothing in the database leads to it any more."""

    def statements(connection: sqlite3.Connection) -> None:
        (person,) = connection.execute("SELECT person FROM consent_events ORDER BY seq DESC LIMIT 1").fetchone()
        connection.execute("DELETE FROM consent_events WHERE seq = (SELECT max(seq) FROM consent_events)")
        connection.execute("DELETE FROM principal_links WHERE number = ?", (person,))
        connection.execute("DELETE FROM consent_receipts")

    edit(statements)


def cut_ledger() -> None:
    edit(lambda connection: connection.execute("DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)"))


def hashed_anew() -> None:
    """Halve what a run is said to have spent, and make all hashes fit, by whoever has the database and no key."""

    def statements(connection: sqlite3.Connection) -> None:
        previous = GENESIS
        for seq, body in connection.execute("SELECT seq, body FROM ledger ORDER BY seq").fetchall():
            changed = json.dumps({**json.loads(body), "steps": 1}, sort_keys=True, separators=(",", ":"))
            made = row_hash(previous, seq, changed.encode())
            words = "UPDATE ledger SET body = ?, prev_hash = ?, row_hash = ? WHERE seq = ?"
            connection.execute(words, (changed, previous, made, seq))
            previous = made

    edit(statements)


def swapped_links() -> None:
    def statements(connection: sqlite3.Connection) -> None:
        one, other, *_ = connection.execute("SELECT pseudonym, number, salt FROM principal_links").fetchall()
        connection.execute("DELETE FROM principal_links WHERE pseudonym IN (?, ?)", (one[0], other[0]))
        rows = ((one[0], *other[1:]), (other[0], *one[1:]))
        connection.executemany("INSERT INTO principal_links (pseudonym, number, salt) VALUES (?, ?, ?)", rows)

    edit(statements)


def elsewhere() -> None:
    folder = Path("../elsewhere")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)


DAMAGES: dict[str, Callable[[], None]] = {
    "older copy, of before the run": lambda: older("before the run"),
    "older copy, of before a no": lambda: older("before the no"),
    "events cut off": cut_events,
    "ledger cut off": cut_ledger,
    "ledger hashed anew": hashed_anew,
    "links swapped": swapped_links,
    "another working folder": elsewhere,
}


def words_of(verb: str, project: Path) -> tuple[str, ...]:
    run = next(project.glob("runs/*/*/result.json")).parent
    if verb == "resume":
        values = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps({**values, "status": "KILLED"}))  # as after Ctrl-C
        return ("train", "--resume", str(run))
    if verb == "promote":
        return ("promote", str(run), "--dry-run")
    return (verb, *STORED, f"consent.key={project}/runs/principal.key")


def state(project: Path) -> tuple[list[str], list[tuple[int, str]]]:
    """Folders of runs, and the rows of the ledger."""
    connection = sqlite3.connect(project / STORE)
    rows = []
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'ledger'").fetchone():
        rows = connection.execute("SELECT seq, row_hash FROM ledger ORDER BY seq").fetchall()
    connection.close()
    return sorted(str(path) for path in project.glob("runs/*/*")), rows


@pytest.mark.parametrize("verb", ["train", "resume", "promote", "tradeoff"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_nothing_starts_on_a_damaged_store(project: Path, cli: Run, damage: Callable[[], None], verb: str) -> None:
    words = words_of(verb, project)
    damage()
    before = state(project)
    ended = cli(*words)
    assert ended.code in (4, 9), ended
    assert ended.err.strip().count("\n") == 0, ended.err
    assert state(project) == before
    assert not list(Path.cwd().glob("*.db")) or Path.cwd() == project


@pytest.mark.parametrize("verb", ["resume", "promote"])
@pytest.mark.parametrize("by_store", [True, False], ids=["by the store", "by a file"])
def test_from_another_folder_a_run_that_names_its_key_in_full_is_not_asked_about_without_its_store(
    project: Path, cli: Run, verb: str, by_store: bool
) -> None:
    words = words_of(verb, project)
    config = next(project.glob("runs/*/*/config.yaml"))
    values = yaml.safe_load(config.read_text())
    values["consent"] |= {"key": str(project / "runs" / "principal.key"), "store": by_store}
    config.write_text(yaml.safe_dump(values))
    elsewhere()
    ended = cli(*words)
    assert (ended.code, ended.err.strip().count("\n")) == (9, 0), ended
    assert str(project / STORE) in ended.err
    assert not list(Path.cwd().iterdir())


def test_each_of_them_starts_on_the_store_as_it_was(project: Path, cli: Run) -> None:
    assert cli(*words_of("promote", project)).code == 0
    assert cli(*words_of("resume", project)).code == 0
    assert cli(*words_of("train", project), "dry_run=true").code == 0
