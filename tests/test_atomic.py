"""What is written is there whole or not at all, and what a killed writer leaves is found and removed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from dp_train import atomic
from dp_train.atomic import sweep, whole_file, whole_folder, write_text
from dp_train.consent.events import Purpose
from dp_train.consent.manifest import PRIVATE, Manifest, forget, write_manifest
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.signing import SigningKey
from dp_train.training.checkpoint import CheckpointFolder, TrainState
from dp_train.training.seeds import Seeds

SECRET = "5ec4e7" * 10
MANIFEST = Manifest(
    run="r", population="p", purpose=Purpose.TRAIN_CHAT_COMPOSE, consent_root="c", people=("0" * 64, "1" * 64)
)


def state(step: int) -> TrainState:
    return TrainState(
        step=step,
        identity={"cohort": SECRET},
        name="",
        model={"w": torch.zeros(1)},
        optimizer=None,
        monitor={},
        seeds=Seeds.fresh(),
        seconds=0.0,
    )


def killed_before_its_rename(write: Callable[[], object]) -> None:
    """Run `write` in a process that is killed between making its file durable and giving it its name."""

    def child() -> None:
        def kill(*_: object, **__: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        Path.rename = Path.replace = os.link = kill  # type: ignore[assignment,method-assign]
        write()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


WRITERS: dict[str, Callable[[Path], object]] = {
    "checkpoint": lambda folder: CheckpointFolder(folder).save(state(1)),
    "manifest": lambda folder: write_manifest(MANIFEST, folder.parent),
    "principal key": lambda folder: PrincipalKey.create(folder / "principals.key"),
    "signing key": lambda folder: SigningKey.open(folder / "signing.key"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_killed_writer_leaves_nothing_under_the_name_and_the_next_one_removes_its_part(
    tmp_path: Path, name: str
) -> None:
    folder, write = tmp_path / PRIVATE, WRITERS[name]
    folder.mkdir()
    killed_before_its_rename(partial(write, folder))
    (part,) = folder.iterdir()
    assert part.name.endswith(".part")
    assert stat.S_IMODE(part.stat().st_mode) & 0o077 == 0
    write(folder)
    assert sweep(folder) == (1 if name == "manifest" else 0)
    assert len(list(folder.iterdir())) == 1
    assert part not in folder.iterdir()


def test_erasure_removes_half_written_lists_of_people(tmp_path: Path) -> None:
    write_manifest(MANIFEST, tmp_path)
    killed_before_its_rename(lambda: write_manifest(MANIFEST, tmp_path))
    elsewhere = tmp_path / PRIVATE / ".people.jsonl.0123456789ab-1-1-00000000.part"
    before = tmp_path / PRIVATE / f".people.jsonl.{2**22 + 1}"  # as older versions called theirs
    for part in (elsewhere, before):
        part.write_text("0" * 64)
    assert forget(tmp_path, "0" * 64)
    assert [path.name for path in (tmp_path / PRIVATE).iterdir()] == ["people.jsonl"]
    assert not any("0" * 64 in path.read_text() for path in (tmp_path / PRIVATE).iterdir())


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a") as file, whole_folder(tmp_path / "b") as folder:
        file.write(b"1")
        (folder / "c").write_text("2")
        assert sweep(tmp_path, deep=True, foreign_seconds=0) == 0
    assert (tmp_path / "a").read_bytes() == b"1"
    assert (tmp_path / "b/c").read_text() == "2"


def test_a_part_of_a_process_whose_number_was_given_again_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_begun", lambda pid: 1)
    name = atomic._part_name("a")
    monkeypatch.undo()
    (tmp_path / name).write_text("")
    assert sweep(tmp_path) == 1


def test_a_part_of_another_machine_is_removed_when_it_is_old(tmp_path: Path) -> None:
    part = tmp_path / ".a.0123456789ab-1-1-00000000.part"
    part.write_text("")
    assert sweep(tmp_path) == 0
    day_before = time.time() - atomic.FOREIGN_SECONDS - 1
    os.utime(part, (day_before, day_before))
    assert sweep(tmp_path) == 1


@pytest.mark.parametrize(
    "name", [".a.1.part", ".bashrc", ".a.7", "a.0123456789ab-1-1-00000000.part", ".mlflow.db.lock"]
)
def test_files_of_others_are_not_swept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    assert sweep(tmp_path, deep=True, foreign_seconds=0) == 0


def test_sweeping_deep_reaches_every_folder_and_follows_no_link(tmp_path: Path) -> None:
    name = ".a.0123456789ab-1-1-00000000.part"
    (tmp_path / "run/checkpoint").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for folder in ("run", "run/checkpoint", "other"):
        (tmp_path / folder / name).write_text("")
    (tmp_path / "run/link").symlink_to(tmp_path / "other")
    assert sweep(tmp_path / "run", deep=True, foreign_seconds=0) == 2
    assert (tmp_path / "other" / name).exists()


def test_an_error_leaves_the_older_file_and_no_trace(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def failing_file() -> None:
        with whole_file(tmp_path / "a") as file:
            file.write(b"new")
            raise ZeroDivisionError

    def failing_folder() -> None:
        with whole_folder(tmp_path / "b") as part:
            (part / "c").write_text("new")
            raise ZeroDivisionError

    for failing in (failing_file, failing_folder):
        with pytest.raises(ZeroDivisionError):
            failing()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_file_that_must_be_new_never_replaces_one(tmp_path: Path) -> None:
    write_text(tmp_path / "key", "first", replace=False)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "key", "second", replace=False)
    assert (tmp_path / "key").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("replace", [False, True])
def test_of_two_writers_of_a_folder_one_stays_whole(tmp_path: Path, replace: bool) -> None:
    with whole_folder(tmp_path / "a", replace=replace) as second:
        (second / "n").write_text("2")
        with whole_folder(tmp_path / "a") as first:
            (first / "n").write_text("1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a/n").read_text() == ("2" if replace else "1")
