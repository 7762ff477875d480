"""Every example runs as its head says, from a file of the working folder and from an installed package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from example_runs import EXAMPLES, SMALL, Python

from dp_train.corpora.readers import read_jsonl
from dp_train.corpora.sample import CONSENT, CONVERSATIONS, KEY


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_read_on_one_screen(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize("name", ["quickstart", "own_loop"])
def test_a_script_ends_with_the_claim_that_its_plan_makes(name: str, python: Python) -> None:
    done = python(str(EXAMPLES / f"{name}.py"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ε=8.00, δ=1e-05 per person")


def package(name: str, group: str, member: str, site: Path, tmp_path: Path) -> None:
    """Install an example as a package with one entry point, as pip does it, into `site`."""
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(EXAMPLES / f"{name}.py", project)
    point = f'[project.entry-points."{group}"]\n{member}\n'
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'
        f'[project]\nname = "{name.replace("_", "-")}"\nversion = "0.1"\n\n{point}\n'
        f'[tool.hatch.build.targets.wheel]\ninclude = ["{name}.py"]\n'
    )
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    done = subprocess.run([*pip, "--target", str(site), str(project)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def trained(tmp_path: Path) -> Callable[[], dict[str, object]]:
    """What the one run in the working folder left."""

    def read() -> dict[str, object]:
        (found,) = tmp_path.glob("runs/*/*/result.json")
        values: dict[str, object] = json.loads(found.read_text())
        return values

    return read


def test_an_installed_package_adds_a_task_by_one_entry_point(
    dp_train: Python, tmp_path: Path, trained: Callable[[], dict[str, object]]
) -> None:
    site = tmp_path / "site"
    package("own_task", "dp_train.tasks", 'reply = "own_task:Reply"', site, tmp_path)
    assert "task=reply (own-task 0.1)" in dp_train("ls", "tasks", path=(site,)).stdout
    words = ("task=reply", "task.options.min_words=2", "privacy.max_contributions=4", *SMALL)
    done = dp_train("train", *words, path=(site,), imported=False)
    assert done.returncode == 0, done.stderr
    assert trained()["task"] == "reply"
    assert trained()["status"] == "FINISHED"
    run = str(next(tmp_path.glob("runs/*/*")))
    assert '"loss"' in dp_train("evaluate", run, "--json", path=(site,)).stdout
    ended = dp_train("train", "task=reply", "task.options.min_word=2", *SMALL, path=(site,))
    assert ended.stderr.count("\n") == 1
    assert "did you mean task.options.min_words?" in ended.stderr
    for word, expected in (("min_words=0", "expected at least 1"), ("min_words=x", "expected a whole number")):
        ended = dp_train("plan", "task=reply", f"task.options.{word}", path=(site,))
        assert ended.returncode == 2
        assert expected in ended.stderr
    ended = dp_train("plan", "task=replyy", path=(site,))
    assert "did you mean reply?" in ended.stderr


def test_a_file_of_the_working_folder_is_taken_from_the_command_line_alone(dp_train: Python, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "own_task.py", tmp_path)
    word = "task=own_task:Reply"
    done = dp_train("train", word, "task.options.min_words=2", "privacy.max_contributions=4", *SMALL)
    assert done.returncode == 0, done.stderr
    (config,) = tmp_path.glob("runs/*/*/config.yaml")
    run = str(config.parent)
    # A stored configuration names no code, whichever verb reads it; nor does an experiment that somebody shares.
    (tmp_path / "experiments").mkdir()
    shared = tmp_path / "experiments" / "shared.yaml"
    shared.write_text("# @package _global_\ndefaults:\n  - override /task: own_task:Reply\n")
    for words in (["evaluate", run], ["plan", "--from-run", run], ["plan", "experiments=shared"]):
        ended = dp_train(*words)
        assert ended.returncode == 2, ended.stdout
        assert ended.stderr.count("\n") == 1
        assert f"give {word} on the command line" in ended.stderr
    for words in (["evaluate", run, "--json"], ["plan", "--without-people", "--from-run", run]):
        ended = dp_train(*words, "--code", word)
        assert ended.returncode == 0, ended.stderr


def test_an_optimizer_of_ones_own_trains(
    dp_train: Python, tmp_path: Path, trained: Callable[[], dict[str, object]]
) -> None:
    shutil.copy(EXAMPLES / "own_optimizer.py", tmp_path)
    words = ("task=chat_compose", "optimizer=own_optimizer:SignMomentum", "optimizer.options.decay=0.8")
    done = dp_train("train", *words, *SMALL)
    assert done.returncode == 0, done.stderr
    assert trained()["status"] == "FINISHED"
    ended = dp_train("plan", *words, "optimizer.momentum=0.5")
    assert "optimizer.momentum=0.5; expected 0 with optimizer=own_optimizer:SignMomentum" in ended.stderr


def test_a_corpus_of_ones_own_trains_on_what_its_people_agreed_to(
    dp_train: Python, tmp_path: Path, trained: Callable[[], dict[str, object]]
) -> None:
    shutil.copy(EXAMPLES / "own_corpus.py", tmp_path)
    shutil.copy(KEY, tmp_path / "principals.key")
    (tmp_path / "principals.key").chmod(0o600)
    threads = [each for each in read_jsonl(CONVERSATIONS).conversations() if each.kind.value == "thread"]
    (org,) = {each.org_id for each in threads[:1]}
    lines = [
        "\t".join([each.conversation_id, each.created_at.isoformat(), turn.person_id, " ".join(turn.text.split())])
        for each in threads
        for turn in each.turns
    ]
    (tmp_path / "log.tsv").write_text("\n".join(lines) + "\n")
    words = ("task=chat_compose", "corpus=own_corpus:ChatLog", "corpus.private=log.tsv", f"corpus.options.org={org}")
    consent = (f"consent.events={CONSENT}", "consent.key=principals.key")
    ended = dp_train("validate", *words, *SMALL)
    assert "without consent nothing is trained" in ended.stderr  # it has no say in who agreed
    done = dp_train("train", *words, *consent, *SMALL)
    assert done.returncode == 0, done.stderr
    assert trained()["status"] == "FINISHED"
