"""A study is begun whole or not at all, and what a killed process did not come to is made up for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dp_train.cli.load_config import compose
from dp_train.errors import CheckpointError, ConfigError
from dp_train.runs import tracker
from dp_train.runs.folder import RunFolder
from dp_train.runs.grid import tradeoff_trials
from dp_train.runs.study import Kind, Study, Trial
from dp_train.tracking.run import RunKind
from dp_train.tracking.store import MARK, TrackingStore


class Killed(BaseException):
    """Stands for the end of a process."""


def trials(seed: int | None) -> list[Trial]:
    recipe, _ = compose(["experiments=compose/quickstart", "tradeoff.epsilons=[2,8]"])
    recipe = replace(recipe, trainer=replace(recipe.trainer, seed=seed))
    return tradeoff_trials(recipe, overrides=("privacy.delta=1e-5",))


def killed_at(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, call: int) -> None:
    """Let the process end at the given call of a method."""
    whole: Callable[..., Any] = getattr(target, name)
    calls = []

    def then(*arguments: Any, **words: Any) -> Any:
        calls.append(arguments)
        if len(calls) > call:
            raise Killed
        return whole(*arguments, **words)

    monkeypatch.setattr(target, name, then)


@pytest.mark.parametrize("call", range(6))
@pytest.mark.parametrize("name", ["write_json", "write", "complete"])
def test_a_study_whose_beginning_was_cut_off_is_found_whole(
    name: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = trials(7)
    with monkeypatch.context() as broken:
        killed_at(broken, RunFolder, name, call)
        with pytest.raises(Killed):
            Study.begin(RunFolder(tmp_path / "s"), Kind.TRADEOFF, "again", asked, recipe=asked[0].recipe)
    study = Study.find(tmp_path / "s")
    rows = json.loads((tmp_path / "s/study.json").read_text())["trials"]
    assert [study.folder_of(trial).run_id for trial in study.trials] == [row["run"] for row in rows]
    assert [trial.plan for trial in study.trials] == [trial.plan for trial in asked]
    for folder in (study.folder, *map(study.folder_of, study.trials)):
        assert {"config.yaml", "overrides.yaml", "versions.json"} <= {path.name for path in folder.path.iterdir()}
    assert not list(tmp_path.rglob("*.part"))


def test_a_study_takes_no_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    Study.begin(RunFolder(tmp_path / "s"), Kind.SWEEP, "again", trials(None))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="holds something already"):
        Study.begin(RunFolder(tmp_path / "s"), Kind.SWEEP, "again", trials(None))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_fixed_seed_is_in_no_folder_and_may_be_given_again(tmp_path: Path) -> None:
    Study.begin(RunFolder(tmp_path / "s"), Kind.TRADEOFF, "again", trials(987654321))
    assert not any(b"987654321" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    found = Study.find(tmp_path / "s")
    assert found.without_their_seed() == len(found.trials)
    again = Study.find(tmp_path / "s", seed=987654321)
    assert {trial.recipe.trainer.seed for trial in again.trials} == {987654321}
    assert again.without_their_seed() == 0


def test_a_study_of_secret_seeds_takes_none(tmp_path: Path) -> None:
    Study.begin(RunFolder(tmp_path / "s"), Kind.TRADEOFF, "again", trials(None))
    assert Study.find(tmp_path / "s").without_their_seed() == 0
    with pytest.raises(ConfigError, match="its seeds are secret"):
        Study.find(tmp_path / "s", seed=7)


@pytest.mark.parametrize("call", [0, 1])
def test_a_record_that_was_made_as_its_process_was_killed_is_found_again(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = TrackingStore.open(f"sqlite:///{tmp_path / 'm.db'}"), RunFolder(tmp_path)
    words: dict[str, Any] = {"name": "a", "kind": RunKind.TRAIN, "parent_id": None}
    with monkeypatch.context() as broken:
        killed_at(broken, RunFolder, "write_json", call)
        with pytest.raises(Killed):
            tracker._open(store, folder, experiment=lambda: store.experiment("e"), **words)
    opened = tracker._open(store, folder, experiment=lambda: store.experiment("e"), **words)
    assert not opened.described
    assert [row.run_id for row in store.runs()] == [opened.run.run_id]
    assert store.marked("0" * 16) is None
    assert MARK.startswith("dp_train.")
