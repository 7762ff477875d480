"""Studies that are killed at random moments end as undisturbed ones; scripts/kill_study.py kills them more often."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_killed_at_random_moments_and_resumed_a_study_is_that_of_one_that_was_left_alone(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ("--kills", "3", "--cases", "0", "3", "--seed", "5", "--folder", str(tmp_path))
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
