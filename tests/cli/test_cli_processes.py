"""`dp-train train` on several processes: one folder, one line in the ledger, one ε, and the model of one process."""

from __future__ import annotations

import json
import os
import signal
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_runs import SMALL, Run

from dp_train.cli import train
from dp_train.engines.ranks import ALONE
from dp_train.errors import ConfigError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import Line, State
from dp_train.runs.processes import refuse_several_processes
from dp_train.training.run_state import RunState

WORDS = ("train", *SMALL, "tracking=off", "trainer.seed=5", "trainer.steps=6", "trainer.checkpoint_every=2")
LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


def weights(run: str) -> torch.Tensor:
    found = load_file(Path(run, "model", "model.safetensors"))
    return torch.cat([found[name].flatten() for name in sorted(found)])


def other_process() -> int:
    """The process that this one started for the run."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    (found,) = [int(one) for one in children if b"trainer.processes=2" in Path(f"/proc/{one}/cmdline").read_bytes()]
    return found


def lines() -> list[Line]:
    """Of the ledger."""
    return list(Ledger.open(f"sqlite:///{Path('dp_train.db').absolute()}").book().lines.values())


@pytest.mark.timeout(1200)
def test_two_processes_are_the_run_of_one(folder: Path, cli: Run) -> None:
    alone = cli(*WORDS, "hydra.run.dir=runs/alone")
    assert alone.code == 0
    both = cli(*WORDS, "trainer.processes=2", "hydra.run.dir=runs/both")
    assert (both.code, both.err) == (0, "")
    expected, found = (json.loads(Path("runs", name, "result.json").read_text()) for name in ("alone", "both"))
    assert [found[part] for part in ("epsilon", "steps", "identity")] == [
        expected[part] for part in ("epsilon", "steps", "identity")
    ]
    torch.testing.assert_close(weights("runs/both"), weights("runs/alone"), rtol=1e-4, atol=1e-5)

    assert [line.state for line in lines()] == [State.COMMITTED, State.COMMITTED]


@pytest.mark.timeout(1200)
def test_a_run_that_lost_a_process_is_charged_and_goes_on_with_another_number(
    folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = RunState.record

    def kill(self: RunState, step: object) -> None:
        record(self, step)  # type: ignore[arg-type]
        if self.setup.plan.private and self.step == 3:
            os.kill(other_process(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(RunState, "record", kill)
        lost = cli(*WORDS, "trainer.processes=2", "hydra.run.dir=runs/lost")
    assert (lost.code, lost.err.count("\n")) == (13, 1)
    assert "another process of this run ended" in lost.err
    assert "WORLD_SIZE" not in os.environ
    (line,) = lines()
    assert (line.state, line.event) == (State.ABORTED, line.full_event)
    resumed = cli("train", "--resume", "runs/lost", "trainer.seed=5", "trainer.processes=1")
    assert resumed.code == 0
    (line,) = lines()
    assert (line.state, line.steps) == (State.COMMITTED, 6)


def test_trials_of_a_study_are_one_process_each(folder: Path, cli: Run) -> None:
    ended = cli("train", "-m", *SMALL, "tracking=off", "trainer.processes=2", "privacy.epsilon=2,4")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "trainer.processes=2" in ended.err


def test_processes_are_refused_unless_they_are_as_many_as_the_run_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    refuse_several_processes(2)
    for expected in (1, 3):
        with pytest.raises(ConfigError, match="WORLD_SIZE=2"):
            refuse_several_processes(expected)


def test_processes_that_are_started_again_begin_no_second_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(ConfigError, match="--resume FOLDER"):
        train._be_first(Namespace(resume=None, multirun=False), ALONE)
