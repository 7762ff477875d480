"""The README's Python runs as it stands, and brings in neither Hydra nor MLflow."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_ten_lines_train_a_model_without_hydra_and_mlflow() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    code += "\nimport sys\nprint(sorted({'hydra', 'omegaconf', 'mlflow'} & set(sys.modules)))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    claim, loaded = done.stdout.strip().splitlines()
    assert claim.startswith("ε=8.00, δ=1e-05 per person")
    assert loaded == "[]"
