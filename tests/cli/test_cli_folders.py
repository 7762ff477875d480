"""Run folders: one a run, never shared, never half-written, and found again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dp_train.cli.load_config import compose, without_hydra
from dp_train.errors import CheckpointError, ConfigError, ModelError
from dp_train.runs.folder import RunFolder


def test_runs_of_one_moment_do_not_meet(folder: Path) -> None:
    names = {str(compose([])[1].hydra.run.dir) for _ in range(5)}
    names |= {str(compose([])[1].hydra.sweep.dir) for _ in range(5)}
    assert len(names) == 10


def test_a_configuration_names_one_folder_however_often_it_is_read(folder: Path) -> None:
    tree = compose([])[1]
    assert tree.hydra.run.dir == tree.hydra.run.dir


def test_of_many_that_claim_a_folder_one_gets_it(folder: Path) -> None:
    tree = without_hydra(compose([])[1])

    def claim(number: int) -> bool:
        try:
            RunFolder.create(folder / "run", tree, [f"corpus.seed={number}"])
        except CheckpointError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_a_refused_folder_stays_as_it_was(folder: Path) -> None:
    tree = without_hydra(compose([])[1])
    RunFolder.create(folder / "run", tree, ["first"])
    before = {path: path.read_bytes() for path in (folder / "run").iterdir()}
    with pytest.raises(CheckpointError, match="exists already"):
        RunFolder.create(folder / "run", tree, ["second"])
    assert {path: path.read_bytes() for path in (folder / "run").iterdir()} == before


def test_a_folder_that_cannot_be_made_is_one_line(folder: Path) -> None:
    (folder / "runs").write_text("a file in the way")
    with pytest.raises(CheckpointError, match="cannot be written"):
        RunFolder.create(folder / "runs" / "run", without_hydra(compose([])[1]), [])


def test_a_seed_is_in_no_file_of_the_folder(folder: Path) -> None:
    words = ["trainer.seed=987654321", "privacy.epsilon=2"]
    run = RunFolder.create(folder / "run", without_hydra(compose(words)[1]), words)
    texts = [path.read_text() for path in run.path.iterdir()]
    assert any("privacy.epsilon=2" in text for text in texts)
    assert not any("987654321" in text for text in texts)


def test_runs_are_found_by_folder_by_id_and_by_the_trackers_id(folder: Path) -> None:
    tree = without_hydra(compose([])[1])
    run = RunFolder.create(Path("runs/2025-01-31/12-00-00-000001-a1b2c3"), tree, [])
    run.write_json("tracking.json", {"run_id": "feed"})
    trial = RunFolder.create(Path("multirun/2025-01-31/12-00-00-000002-d4e5f6/0"), tree, [])
    assert RunFolder.find("a1b2c3") == RunFolder.find("feed") == run
    assert RunFolder.find(str(run.path)).path == run.path
    assert RunFolder.find("d4e5f6/0") == trial
    assert list(RunFolder.all()) == [trial, run]
    for name in ("d4e5f6", "0", "", "nothing"):
        with pytest.raises(ConfigError, match="no such run"):
            RunFolder.find(name)


def test_a_damaged_result_reads_as_none(folder: Path) -> None:
    run = RunFolder.create(folder / "run", without_hydra(compose([])[1]), [])
    run.write_json("result.json", {"status": "FINISHED"})
    assert json.loads((run.path / "result.json").read_text()) == run.read_json("result.json")
    (run.path / "result.json").write_text('{"status": "FIN')
    assert run.read_json("result.json") == {}


def test_a_retired_model_is_refused_with_its_reason(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.refuse_retired()
    folder.retire("consent was withdrawn", datetime(2025, 1, 31, tzinfo=UTC))
    with pytest.raises(ModelError, match=r"retired on 2025-01-31.*consent was withdrawn"):
        folder.refuse_retired()
    (tmp_path / "model_status.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        folder.refuse_retired()
