"""Runs are found from the store: made from Python, in any folder, moved, in no ledger, or gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
from small_runs import SMALL, Run, signal_at_checkpoint

from dp_train.cli.load_config import compose
from dp_train.consent.manifest import read_manifest
from dp_train.consent.principals import PrincipalKey
from dp_train.corpora.synthetic import Population, SyntheticCorpus
from dp_train.errors import ConfigError, ConsentError, StoreError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.rounding import rounded_up
from dp_train.runs.inventory import inventory
from dp_train.runs.prepare import prepare
from dp_train.runs.processes import refuse_several_processes
from dp_train.runs.project import key_path, refuse_second_store
from dp_train.runs.run import run
from dp_train.runs.tracker import tracker_of
from dp_train.store.database import absolute_url
from dp_train.tracking.connection import client
from dp_train.training.checkpoint import CheckpointFolder

RUN = Path("../elsewhere/r1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose only run was made from Python, in a folder outside the project."""
    before = Path.cwd()
    working = tmp_path_factory.mktemp("found") / "project"
    working.mkdir()
    os.chdir(working)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("DP_TRAIN_STORE", None)
    try:
        parts = prepare(compose(SMALL)[0])
        assert not list(working.glob("*.db"))  # preparing spends nothing
        result = run(parts, RUN, tracker=tracker_of(parts.recipe))
        assert result.epsilon is not None
        yield working
    finally:
        os.chdir(before)


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it and of the run for one test: both have moved."""
    shutil.copytree(trained.parent, tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved" / "project")
    return tmp_path / "moved" / "project"


def test_one_name_stands_wherever_the_run_is_named(project: Path) -> None:
    """docs/privacy.md, One identity: checkpoint, ledger line, manifest, card, tracked run and exported model."""
    manifest = read_manifest(RUN)
    assert manifest is not None
    assert manifest.identity
    card = json.loads((RUN / "card.json").read_text())
    book = Ledger.open(absolute_url(None, Path.cwd())).book()
    state = CheckpointFolder(RUN / "checkpoint").load()
    assert state is not None
    tracker = client(f"sqlite:///{project / 'mlflow.db'}")
    found = tracker.search_runs([one.experiment_id for one in tracker.search_experiments()])
    tags = [one.data.tags["dp_train.identity"] for one in found if "dp_train.identity" in one.data.tags]
    assert {
        "checkpoint": state.name,
        "ledger line": book.lines[manifest.run].identity,
        "card": card["code"]["run"],
        "tracked run": tags[0],
        "model": json.loads((RUN / "model" / "dp_train.json").read_text())["identity"],
    } == dict.fromkeys(("checkpoint", "ledger line", "card", "tracked run", "model"), manifest.identity)


def members(folder: Path = RUN) -> list[str]:
    key, manifest = PrincipalKey.load("runs/principal.key"), read_manifest(folder)
    assert manifest is not None
    everyone = (person.person_id for person, _ in SyntheticCorpus(60, Population.PRIVATE).census())
    return [person for person in everyone if manifest.holds(key.pseudonym(person))]


def asked(cli: Run, *words: str, code: int = 0) -> Any:
    ended = cli(*words, "--json")
    assert ended.code == code, ended.err
    return json.loads(ended.out)


def test_a_run_from_python_leaves_manifest_reservation_card_and_is_seen_by_a_withdrawal(
    project: Path, cli: Run
) -> None:
    assert (RUN / "card.md").exists()
    note = json.loads((RUN / "ledger.json").read_text())
    ledger = Ledger.open(absolute_url(None, Path.cwd()))
    (line,) = ledger.book().lines.values()
    ledger.close()
    assert line.reservation == note["reservation"]
    assert line.state.value == "committed"
    assert cli("report", str(RUN), "--verify").code == 0
    leaves = members()[0]
    found = asked(cli, "consent", "withdraw", leaves)
    assert [each["reservation"] for each in found["runs"]] == [note["reservation"]]
    assert Path(found["runs"][0]["run"]).resolve() == RUN.resolve()  # the copy, which moved with its store
    assert found["runs_not_found"] == []
    assert "r1" in cli("ls", "runs").out


def test_a_run_whose_folder_is_gone_is_said_with_a_code_and_the_versions_that_came_of_it(
    project: Path, trained: Path, cli: Run
) -> None:
    person = members()[0]
    assert cli("promote", str(RUN), "--name", "summaries").code == 0
    note = json.loads((RUN / "ledger.json").read_text())
    shutil.move(RUN, "../out_of_sight")
    shutil.move(trained.parent / "elsewhere", trained.parent / "hidden")
    try:
        found = asked(cli, "consent", "withdraw", person, code=11)
        (missing,) = found["runs_not_found"]
        assert missing["run"] == note["reservation"]
        assert missing["model_versions"] == ["summaries/1"]
        assert found["stored"]["new"]  # the withdrawal itself stands
        told = cli("consent", "impact", person)
        assert "1 run of these people: folder not found, model unknown" in told.out
        assert "folder not found" in cli("ls", "runs").out
        overdue = asked(cli, "consent", "overdue", code=12)  # whether its people left cannot be read
        assert [each["run"] for each in overdue["runs_not_found"]] == [note["reservation"]]
        # A folder with another run in its place is not taken for it.
        shutil.copytree("../out_of_sight", RUN)
        other = json.loads((RUN / "ledger.json").read_text())
        (RUN / "ledger.json").write_text(json.dumps({**other, "reservation": "00ff"}))
        assert [each.run for each in inventory().missing] == [note["reservation"]]
    finally:
        shutil.move(trained.parent / "hidden", trained.parent / "elsewhere")


def test_store_key_and_runs_hold_in_a_folder_below_the_project(
    project: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = members()[0]
    below = project / "notebooks" / "mine"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert absolute_url(None, below) == f"sqlite:///{project / 'dp_train.db'}"
    assert key_path("runs/principal.key") == project / "runs" / "principal.key"
    assert len(asked(cli, "consent", "withdraw", person)["runs"]) == 1
    parts = prepare(compose(SMALL)[0])
    assert person not in parts.data.units.people
    assert parts.data.units.population == json.loads((project / RUN / "ledger.json").read_text())["population"]


def test_a_run_makes_no_second_store_for_people_or_runs_that_have_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    recipe = compose([*SMALL, f"consent.key={project}/runs/principal.key"])[0]
    with pytest.raises(StoreError, match="belongs to a project whose store is"):
        prepare(recipe)
    monkeypatch.setenv("DP_TRAIN_STORE", f"sqlite:///{project}/dp_train.db")
    refuse_second_store(recipe)
    monkeypatch.delenv("DP_TRAIN_STORE")
    # Beside runs whose store was taken away.
    shutil.copytree(project / RUN, "runs/day/r1")
    with pytest.raises(StoreError, match="runs in this folder are in the store"):
        refuse_second_store(compose(SMALL)[0])
    assert not (elsewhere / "dp_train.db").exists()


def test_a_run_in_no_ledger_is_found_and_consent_is_asked_again_before_it(project: Path, cli: Run) -> None:
    recipe = compose([*SMALL, "ledger=false", "tracking=off"])[0]
    stale = prepare(recipe)
    leaves, stays = members()[:2]
    asked(cli, "consent", "withdraw", leaves)
    with pytest.raises(ConsentError, match="consent changed since this run was prepared"):
        run(stale, "../elsewhere/stale")
    run(prepare(recipe), "../elsewhere/r2")
    assert not (Path("../elsewhere/stale") / "checkpoint").exists()
    assert len(asked(cli, "consent", "impact", stays)["runs"]) == 2
    assert len(asked(cli, "consent", "impact", leaves)["runs"]) == 1


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_several_processes_are_refused_before_anything_is_reserved(
    name: str, project: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path("dp_train.db").read_bytes()
    monkeypatch.setenv(name, "2")
    ended = cli("train", *SMALL, "tracking=off")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"{name}=2" in ended.err
    with pytest.raises(ConfigError):
        refuse_several_processes()
    monkeypatch.setenv(name, "1")
    refuse_several_processes()
    assert Path("dp_train.db").read_bytes() == before


def test_ls_says_what_the_ledger_says_of_a_run_that_was_killed_after_its_last_step(project: Path, cli: Run) -> None:
    result = json.loads((RUN / "result.json").read_text())
    # A resumed run that was killed before it could write: its folder holds what the interrupted one said.
    (RUN / "result.json").write_text(json.dumps({**result, "status": "KILLED", "steps": 2, "epsilon": 7.38}))
    (row,) = [line for line in cli("ls", "runs").out.splitlines() if "r1" in line]
    assert "7.38" not in row
    assert rounded_up(result["epsilon"]) in row
    assert "trained, not scored" in row


KILLED_AFTER_ITS_LAST_STEP = """
import os, signal, sys
from dp_train.cli.main import main
from dp_train.runs import run
run.score = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
main(["train", "--resume", sys.argv[1]])
"""


def test_a_run_in_a_folder_of_any_place_is_seen_by_its_people_and_counts_in_full_when_it_is_killed(
    folder: Path, cli: Run, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "project").mkdir()
    monkeypatch.chdir(folder / "project")
    with monkeypatch.context() as patched:
        signal_at_checkpoint(patched, signal.SIGTERM)
        stopped = cli("train", *SMALL, "tracking=off", "trainer.checkpoint_every=1", f"hydra.run.dir={RUN}")
    assert stopped.code == 143, stopped.err
    resumed = ("-c", KILLED_AFTER_ITS_LAST_STEP, str(RUN))
    program = processes.start(resumed, folder=folder / "project", output=tmp_path_factory.mktemp("output"))
    code, _, err = program.ended(timeout=240)
    assert code == -signal.SIGKILL, err
    assert json.loads((RUN / "result.json").read_text())["status"] == "KILLED"  # what the first one left
    (row,) = [line for line in cli("ls", "runs").out.splitlines() if "r1" in line]
    (line,) = Ledger.open(absolute_url(None, Path.cwd())).book().lines.values()
    assert line.state.value == "committed"
    assert "trained, not scored" in row
    assert rounded_up(line.promised) in row
    for words in (("impact",), ("withdraw",)):
        found = asked(cli, "consent", *words, members()[0])
        assert [Path(each["run"]).resolve() for each in found["runs"]] == [RUN.resolve()]
        assert found["runs_not_found"] == []
