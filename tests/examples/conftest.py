"""Examples as their readers run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from example_runs import EXAMPLES, Python


@pytest.fixture
def python(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Run Python in an empty working folder, with `path` before everything else that can be imported.

    It is forked with the imports made; `imported=False` starts it from nothing, as a user does.
    """

    output = tmp_path_factory.mktemp("output")

    def run(*words: str, path: tuple[Path, ...] = (), imported: bool = True) -> subprocess.CompletedProcess[str]:
        if imported:
            code, out, err = processes.start(words, folder=tmp_path, output=output, path=path).ended(timeout=600)
            return subprocess.CompletedProcess(words, code, out, err)
        found = os.pathsep.join([*map(str, path), str(EXAMPLES.parent)])
        environment = {**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def dp_train(python: Python) -> Python:
    """Call the command line in an empty working folder, as a process of its own."""

    def run(*words: str, path: tuple[Path, ...] = (), imported: bool = True) -> subprocess.CompletedProcess[str]:
        return python("-m", "dp_train", *words, path=path, imported=imported)

    return run
