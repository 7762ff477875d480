"""A working folder, the command line called in this process, and one small finished run, made once a module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from small_runs import SMALL, Ended, Run

from dp_train.cli.main import main


@pytest.fixture(scope="module", autouse=True)
def _pictures_in_one_pass() -> Iterator[None]:
    """Draw each picture once and with few dots; what pictures show is held by tests/tracking."""
    whole = Figure.savefig

    def savefig(self: Figure, *words: Any, **options: Any) -> None:
        self.set_layout_engine("none")
        whole(self, *words, **options | {"dpi": 40})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Figure, "savefig", savefig)
        yield


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process; the working folder is the test's."""

    def call(*words: str) -> Ended:
        capfd.readouterr()
        code = main(words)
        captured = capfd.readouterr()
        return Ended(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a finished run without a tracker; its working folder is the current one."""
    before = Path.cwd()
    working = tmp_path_factory.mktemp("working")
    os.chdir(working)
    try:
        assert main(["train", *SMALL, "tracking=off", "trainer.seed=987654321"]) == 0
        yield next(working.glob("runs/*/*/result.json")).parent
    finally:
        os.chdir(before)
