"""The tutorial of docs/own-data.md runs word for word, in an empty folder, as a shell reads it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which `dp-train` and `python` are this package and this interpreter."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, command in (("dp-train", f'{sys.executable} -m dp_train "$@"'), ("python", f'{sys.executable} "$@"')):
        (programs / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DP_TRAIN", "MLFLOW"))}
    return {**kept, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def test_the_tutorial_ends_with_a_private_model(tmp_path: Path, shell: dict[str, str]) -> None:
    page = (ROOT / "docs" / "own-data.md").read_text()
    first = page.split("## Three commands\n", 1)[1].split("\n## ", 1)[0]
    fences = re.findall(r"```console\n(.*?)```", first, re.DOTALL)
    assert len(fences) == 2
    lines = [line.removeprefix("$ ") for fence in fences for line in fence.splitlines()]
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)],
        cwd=tmp_path / "empty",
        env=shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "empty" / "try"
    (card,) = folder.glob("runs/*/*/card.md")
    assert "ε=8.00, δ=1e-05 per person" in card.read_text()
    assert "kept out, for nothing reads them: mood" in done.stderr
    shown = re.findall(r"```text\n(.*?)```", first, re.DOTALL)[0].splitlines()
    said = {" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines()}
    missing = [line for line in map(str.strip, shown) if line and line != "…" and " ".join(line.split()) not in said]
    assert not missing
