"""What is kept longer than was promised is listed, and removed when it is asked for, as a privacy officer types it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import SMALL, Run

from dp_train.cli.main import main
from dp_train.runs.folder import RunFolder

NOW = "rules: [{kind: tables, days: 0}, {kind: checkpoints, days: 0}, {kind: samples, days: 0}]"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with one finished run, tracked, whose tokenised rows are cached."""
    before = Path.cwd()
    working = tmp_path_factory.mktemp("retention")
    os.chdir(working)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("DP_TRAIN_STORE", None)
    try:
        assert main(["train", *SMALL, "corpus.tables=runs/units"]) == 0
        yield working
    finally:
        os.chdir(before)


@pytest.fixture
def working(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    Path("now.yaml").write_text(NOW)
    return tmp_path / "w"


def files(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: data for name, data in found.items() if not name.endswith((".checkpoint", "-shm", "-wal"))}


def test_without_apply_it_lists_and_changes_nothing(working: Path, cli: Run) -> None:
    assert cli("consent", "verify").code == 0
    before = files(working)
    ended = cli("consent", "retain", "--rules", "now.yaml", "--json")
    assert ended.code == 12, ended.err
    found = json.loads(ended.out)
    assert {file["kind"] for file in found["files"]} == {"tables", "checkpoints", "samples"}
    assert not found["applied"]
    assert files(working) == before
    assert cli("consent", "retain").code == 0  # by the shipped rules nothing is old enough


def test_applied_it_removes_says_so_in_the_chain_and_the_rest_works(working: Path, cli: Run) -> None:
    run = next(working.glob("runs/*/*/result.json")).parent
    assert list(working.glob("mlartifacts/*/artifacts/samples.json"))
    ended = cli("consent", "retain", "--rules", "now.yaml", "--apply", "--operator", "office", "--reason", "promised")
    assert ended.code == 0, ended.err
    assert not (run / "checkpoint").exists()
    assert not list(working.glob("mlartifacts/*/artifacts/samples*.json"))
    assert not list(working.glob("runs/units/*"))
    assert (run / "model").is_dir()
    assert cli("consent", "export", "audit.jsonl", "--audit").code == 0
    last = json.loads(Path("audit.jsonl").read_text().splitlines()[-1])
    assert (last["terms"]["event_state"], last["terms"]["operator"]) == ("RetentionApplied", "office")
    assert cli("consent", "verify").code == 0
    assert cli("consent", "retain", "--rules", "now.yaml").code == 0
    events = json.loads(cli("consent", "verify", "--json").out)["events"]
    assert cli("consent", "retain", "--rules", "now.yaml", "--apply").code == 0
    assert json.loads(cli("consent", "verify", "--json").out)["events"] == events


def test_the_rules_of_the_working_folder_hold(working: Path, cli: Run) -> None:
    Path("conf").mkdir()
    Path("conf/retention.yaml").write_text(NOW)
    assert cli("consent", "retain").code == 12
    Path("conf/retention.yaml").write_text("rules: [{kind: tapes, days: 1}]")
    assert cli("consent", "retain").code == 2


def test_a_run_that_is_under_way_keeps_its_checkpoint_and_a_lost_one_is_said(working: Path, cli: Run) -> None:
    run = RunFolder(next(working.glob("runs/*/*/result.json")).parent)
    with run.held():
        ended = cli("consent", "retain", "--rules", "now.yaml", "--apply")
    assert (ended.code, run.checkpoint.is_dir()) == (12, True)
    assert "still there: in use" in " ".join(ended.out.split())
    shutil.rmtree(run.path)
    with sqlite3.connect("dp_train.db") as connection:
        connection.execute("UPDATE run_folders SET folder = '/nowhere'")  # that of the folder this one was copied from
    connection.close()
    ended = cli("consent", "retain", "--rules", "now.yaml")
    assert (ended.code, "folder not found" in " ".join(ended.out.split())) == (12, True)


def test_an_edited_chain_removes_nothing(working: Path, cli: Run) -> None:
    assert cli("consent", "withdraw", "nobody-known").code == 0
    with sqlite3.connect("dp_train.db") as connection:
        connection.execute("UPDATE consent_events SET event_time = event_time + 1")
    connection.close()
    before = files(working)
    assert cli("consent", "retain", "--rules", "now.yaml", "--apply").code == 9
    assert {name: data for name, data in files(working).items() if ".db" not in name} == {
        name: data for name, data in before.items() if ".db" not in name
    }
