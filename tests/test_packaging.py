"""A wheel in an empty folder is the whole tool: configuration and experiments travel in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import sys, hatchling.build as b; print(b.build_{kind}(sys.argv[1]))"


def build(kind: str, folder: Path) -> Path:
    command = [sys.executable, "-c", BUILD.format(kind=kind), str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return folder / run.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_configuration_experiments_types_and_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"dp_train/{path.relative_to(ROOT)}" in names
    for path in (ROOT / "experiments").rglob("*.yaml"):
        assert f"dp_train/shipped/{path.relative_to(ROOT)}" in names
    assert "dp_train/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "scripts/")) for name in names)


def test_the_source_archive_holds_what_a_wheel_is_built_from(tmp_path: Path) -> None:
    archive = build("sdist", tmp_path)
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"conf/config.yaml", "experiments/summary/quickstart.yaml", "pyproject.toml", "constraints.txt"} <= names
    assert {"examples/own_task.py", "docs/extending.md"} <= names


def test_an_installed_wheel_trains_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, working = tmp_path / "site", tmp_path / "working"
    working.mkdir()
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def python(*words: str) -> subprocess.CompletedProcess[str]:
        run = subprocess.run([sys.executable, *words], cwd=working, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return run

    assert python("-c", "import dp_train; print(dp_train.__file__)").stdout.strip() == str(
        site / "dp_train/__init__.py"
    )
    dp_train = ("-m", "dp_train")
    assert "experiments=summary/quickstart" in python(*dp_train, "ls", "experiments").stdout
    small = [
        *("corpus.people=60", "corpus.public_people=40", "corpus.evaluation_people=20", "task.max_length=64"),
        *("model.layers=1", "model.width=16", "model.heads=1", "model.vocab_size=320", "task.max_new_tokens=8"),
        *(
            "start.steps=2",
            "trainer.steps=2",
            "privacy.bands=1",
            "trainer.threads=1",
            "evaluation.examples=2",
            "tracking=off",
        ),
    ]
    words = ["train", "experiments=summary/quickstart", *small]
    code = f"import sys; from dp_train.cli.main import main; print(main({words}), 'mlflow' in sys.modules)"
    assert python("-c", code).stdout.splitlines()[-1] == "0 False"
    assert len(list(working.glob("runs/*/*/result.json"))) == 1
