"""Studies that are killed at random moments end as undisturbed ones; scripts/kill_study.py kills them more often."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _files(working: Path, names: tuple[str, ...]) -> dict[str, int]:
    spec = importlib.util.spec_from_file_location("kill_study", ROOT / "scripts/kill_study.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # its dataclasses look themselves up
    spec.loader.exec_module(script)
    working.mkdir()
    for name in names:
        (working / name).touch()
    found: dict[str, int] = script._files(working)
    return found


def test_random_names_are_compared_by_kind_and_number(tmp_path: Path) -> None:
    one = _files(tmp_path / "one", (f"consent-{'0a' * 8}.checkpoint", "0a" * 16))
    other = _files(tmp_path / "other", (f"consent-{'1b' * 8}.checkpoint", "1b" * 16))
    two_stores = _files(
        tmp_path / "two", (f"consent-{'1b' * 8}.checkpoint", f"consent-{'2c' * 8}.checkpoint", "1b" * 16)
    )
    assert one == other == {"consent-STORE.checkpoint": 1, "RUN": 1}
    assert two_stores["consent-STORE.checkpoint"] == 2


def test_killed_at_random_moments_and_resumed_a_study_is_that_of_one_that_was_left_alone(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ("--kills", "2", "--cases", "0", "3", "--seed", "5", "--folder", str(tmp_path))
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/kill_study.py", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 differ from undisturbed ones" in done.stdout
