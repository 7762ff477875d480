"""The front door: answers at once, and ends every way with one line and its exit code."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from small_runs import Run

from dp_train.cli import main as front
from dp_train.cli.main import VERBS, main
from dp_train.errors import BudgetError
from dp_train.runs.registers import GROUPS

HEAVY = "{'torch', 'transformers', 'hydra', 'omegaconf', 'mlflow', 'opacus', 'numpy', 'rich'}"


def test_help_answers_within_half_a_second_and_loads_no_framework() -> None:
    code = (
        f"import sys\nfrom dp_train.cli.main import main\nmain(['--help'])\nprint(sorted({HEAVY} & set(sys.modules)))"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Of the processor, so that a busy machine changes nothing.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert run.stdout.splitlines()[-1] == "[]"
    assert min(seconds) <= 0.5


def test_composing_and_planning_load_neither_torch_nor_a_tracker() -> None:
    code = (
        "import sys\nfrom dp_train.cli.main import main\nassert main(['plan', '--json', '--without-people']) == 0\n"
        "print(sorted({'torch', 'transformers', 'mlflow', 'opacus'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, cli: Run) -> None:
    ended = cli(verb, "--help")
    assert ended.code == 0
    assert f"usage: dp-train {verb}" in ended.out
    assert "example:" in ended.out


def test_help_tells_every_verb_and_the_exit_codes(cli: Run) -> None:
    ended = cli("--help")
    assert all(verb.split()[0] in ended.out for verb in VERBS)
    assert "130 Ctrl-C, 143 SIGTERM" in ended.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tarin"], "did you mean train?"),
        (["train", "--fast"], "unrecognized arguments: --fast"),
        (["train", "privacy.epsilon"], "expected key=value"),
        (["ls", "everything"], "expected one of experiments"),
        (["evaluate"], "the following arguments are required: RUN"),
        (["generate", "nowhere"], "no such run"),
        (["train", "--from-run", "nowhere"], "no such run"),
        (["train", "--resume", "nowhere"], "no such run"),
        (["train", "--resume", "nowhere", "privacy.epsilon=1"], "takes no key=value"),
    ],
)
def test_a_wrong_command_is_one_line(words: list[str], told: str, folder: Path, cli: Run) -> None:
    ended = cli(*words)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert told in ended.err


def replace_verb(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(options: object) -> int:
        raise error

    monkeypatch.setattr(front, "import_module", lambda name: SimpleNamespace(run=run))


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (BudgetError("run needs ε=3.10\nand 1.20 is left"), 5, "run needs ε=3.10 and 1.20 is left\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (SystemExit(143), 143, ""),
        (KeyError("the words of a person"), 1, "internal error: KeyError at "),
    ],
)
def test_each_end_has_its_code_and_one_line(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, cli: Run
) -> None:
    replace_verb(monkeypatch, error)
    ended = cli("env")
    assert ended.code == code
    assert ended.err.startswith(told)
    assert "the words of a person" not in ended.err
    assert ended.err.count("\n") == bool(told)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, cli: Run) -> None:
    replace_verb(monkeypatch, BudgetError("nothing is left"))
    ended = cli("env", "--debug")
    assert ended.code == 5
    assert "Traceback" in ended.err


def test_env_tells_versions_and_checks_the_accountant(cli: Run) -> None:
    ended = cli("env")
    assert ended.code == 0
    assert "opacus" in ended.out
    assert "1.828" in ended.out


def test_ls_tells_experiments_and_parts(folder: Path, cli: Run) -> None:
    ended = cli("ls")
    assert ended.code == 0
    for word in ("experiments=summary/quickstart", "model=tiny_seq2seq", "engine=hooks", "corpus=jsonl", "runs: none"):
        assert word in ended.out


@pytest.mark.parametrize("kind", ["optimizers", "optimizer"])
def test_ls_tells_all_that_a_group_knows_by_either_name(kind: str, folder: Path, cli: Run) -> None:
    assert cli("ls", kind).out.startswith("optimizers: ")
    for name in GROUPS["optimizer"].register.names():
        assert f"optimizer={name}" in cli("ls", kind).out
    assert "privacy=none" in cli("ls", "privacy").out


def test_what_would_run_is_shown_and_nothing_is_begun(folder: Path, cli: Run) -> None:
    shown = cli("train", "--cfg", "job", "trainer.steps=7")
    assert yaml.safe_load(shown.out)["trainer"]["steps"] == 7
    assert "searchpath" in cli("train", "--cfg", "hydra").out
    assert str(folder) in cli("plan", "--info", "searchpath").out
    assert "did you mean trainer.steps?" in cli("train", "--cfg", "job", "trainer.stepz=7").err
    assert list(folder.iterdir()) == []


def test_the_package_is_a_command_too() -> None:
    ended = subprocess.run([sys.executable, "-m", "dp_train", "--help"], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("usage: dp-train")


def test_main_without_arguments_reads_the_command_line(monkeypatch: pytest.MonkeyPatch, cli: Run) -> None:
    monkeypatch.setattr(sys, "argv", ["dp-train", "--version"])
    assert main() in (0, 1)
