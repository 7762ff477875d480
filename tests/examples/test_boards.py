"""Callbacks for boards of others: what they send is public, and they are imported only when a run starts."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from example_runs import EXAMPLES, Python


class Board:
    """Stands in for a run of Weights & Biases and for a writer of TensorBoard; keeps what it is sent."""

    def __init__(self, *words: Any, **named: Any) -> None:
        self.sent: list[tuple[str, Any]] = [("made", (words, named))]
        self.summary: dict[str, Any] = {}
        BOARDS.append(self)

    def __getattr__(self, name: str) -> Any:
        return lambda *words, **named: self.sent.append((name, (words, named)))

    def of(self, name: str) -> list[Any]:
        return [values for kind, values in self.sent if kind == name]


BOARDS: list[Board] = []


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Packages that may not be installed, in name alone."""
    BOARDS.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    wandb, tensorboard = types.ModuleType("wandb"), types.ModuleType("torch.utils.tensorboard")
    wandb.init, tensorboard.SummaryWriter = Board, Board  # type: ignore[attr-defined]
    for module in (wandb, tensorboard):
        module.__spec__ = ModuleSpec(module.__name__, None)  # others look whether it is there
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_weights_and_biases_hears_of_plan_steps_and_claim(stand_in: None) -> None:
    import own_wandb

    claim = own_wandb.main()
    (board,) = BOARDS
    ((_, made),) = board.of("made")
    assert made["config"]["steps"] == 5
    assert made["id"]
    assert [named["step"] for _, named in board.of("log")] == [1, 2, 3, 4, 5]
    assert {name for (values,), _ in board.of("log") for name in values} == {"step", "learning_rate", "epsilon"}
    assert board.summary == {"claim": claim, "status": "FINISHED"}
    assert board.of("finish")


def test_tensorboard_hears_of_steps_weights_and_claim(stand_in: None) -> None:
    import own_tensorboard

    claim = own_tensorboard.main()
    (board,) = BOARDS
    sent = {words[0] for words, _ in board.of("add_scalar")}
    assert {"learning_rate", "epsilon"} < sent
    assert any(name.startswith("norm/") for name in sent)
    assert ("claim", claim) in [words for words, _ in board.of("add_text")]
    assert board.of("close")


@pytest.mark.parametrize(("name", "package"), [("own_tensorboard", "tensorboard"), ("own_wandb", "wandb")])
def test_with_the_package_itself(name: str, package: str, python: Python, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(package, reason=f"pip install {package} to try examples/{name}.py with it")
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = python(str(EXAMPLES / f"{name}.py"), imported=False)
    assert done.returncode == 0, done.stderr
    assert "ε=8.00, δ=1e-05 per person" in done.stdout
