"""Small runs to attack are those in which the sabotage suite plants bugs."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT / "tests" / "sabotage", ROOT / "scripts"):
    sys.path.insert(0, str(folder))
