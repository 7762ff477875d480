"""The hand-written Opacus loop of experiments/compare runs in both modes, and pays the same ε."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "compare" / "one_import.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_import", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings(
    "ignore:Secure RNG turned off", "ignore:Optimal order is the", "ignore:Full backward hook is"
)
def test_one_import_changes_the_mode_and_not_the_epsilon() -> None:
    loop = script()
    spent = {}
    for mode in loop.ENGINES:
        seconds, spent[mode] = loop.train(mode, steps=2, width=16, rows=8, length=6)
        assert len(seconds) == 2
    assert spent["hooks"] == spent["bookkeeping"] > 0
