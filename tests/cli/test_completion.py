"""Laws of completion: what is offered is accepted, and a shell that loads the script offers it."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import Run

from dp_train.cli.completion import candidates
from dp_train.cli.load_config import compose
from dp_train.cli.verbs import GROUPS, VERBS


def test_every_verb_is_offered_word_by_word() -> None:
    for name in VERBS:
        first, _, second = name.partition(" ")
        assert first in candidates([first[:2]])
        if second:
            assert first in GROUPS
            assert second in candidates([first, ""])


@given(st.sampled_from(sorted(VERBS)))
def test_every_option_that_is_offered_is_one_of_the_verb(name: str) -> None:
    parser = argparse.ArgumentParser()
    VERBS[name].options(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    assert set(candidates([*name.split(), "--"])) <= {*known, "--debug"}


def test_keys_parts_and_values_are_offered_and_taken(folder: Path) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "own.yaml").write_text("# @package _global_\n")
    assert "privacy.epsilon=" in candidates(["train", "privacy.e"])
    assert "task=" in candidates(["validate", ""])
    assert "experiments=own" in candidates(["train", "experiments="])
    for key in ("task", "privacy.unit", "trainer.self_check", "model.trainable"):
        offered = candidates(["train", f"{key}="])
        assert len(offered) > 1
        for word in offered:
            compose([word])
    assert candidates(["report", "x"]) == []
    assert candidates(["audit", "--level", "f"]) == ["full"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_its_shell_reads(cli: Run, shell: str) -> None:
    script = cli("completion", shell)
    assert script.code == 0
    assert "dp-train completion words" in script.out
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script.out, text=True, capture_output=True, check=False)
        assert done.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"), [("dp-train led", "ledger"), ("dp-train train task=chat", "chat_compose"), ("dp-train x", "")]
)
def test_bash_completes_a_line(cli: Run, tmp_path: Path, line: str, expected: str) -> None:
    script = cli("completion", "bash").out
    command = tmp_path / "dp-train"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m dp_train "$@"\n')
    command.chmod(0o755)
    asked = f'{script}\nCOMP_LINE="{line}"; COMP_POINT={len(line)}\n_dp_train 2>/dev/null; echo "${{COMPREPLY[*]}}"'
    path = f"{tmp_path}:/usr/bin:/bin"
    found = subprocess.run(
        ["bash", "-c", asked],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": path, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert found.stdout.strip() == expected
