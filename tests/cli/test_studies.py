"""Sweeps and trade-offs are one kind of study: all checked before one trains, all listed, all priced together."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest
from small_runs import SMALL, Run

from dp_train.cli.load_sweep import Sweep, composer, expand
from dp_train.consent.manifest import read_manifest
from dp_train.consent.principals import PrincipalKey
from dp_train.corpora.synthetic import Population, SyntheticCorpus
from dp_train.errors import ConfigError
from dp_train.runs import trials, workers
from dp_train.training.checkpoint import CheckpointFolder

QUIET = (*SMALL, "tracking=off")


def expanded(*words: str) -> Sweep:
    with composer(None, words):
        return expand(list(words), words)


def test_hydras_own_grammar_expands_as_hydra_does(folder: Path) -> None:
    assert [r.engine.name for r in expanded(*SMALL, "engine=glob(h*)").recipes] == ["hooks"]
    sweep = expanded(*SMALL, "privacy.epsilon=choice(2,4)", "trainer.steps=range(3,6)")
    found = sorted((recipe.privacy.epsilon or 0, recipe.trainer.steps) for recipe in sweep.recipes)
    assert found == [(epsilon, steps) for epsilon in (2, 4) for steps in (3, 4, 5)]
    assert list(sweep.subfolders) == [str(number) for number in range(6)]
    assert list(expanded(*SMALL, "privacy.epsilon=2,4", "hydra.sweep.subdir=eps_${privacy.epsilon}").subfolders) == [
        "eps_2.0",
        "eps_4.0",
    ]


def test_a_sweeper_that_chooses_by_results_is_refused_by_name(folder: Path, cli: Run) -> None:
    ended = cli("train", "-m", *QUIET, "privacy.epsilon=2,4", "hydra.sweeper._target_=hydra_plugins.ax.AxSweeper")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "hydra/sweeper=AxSweeper" in ended.err


def test_a_launcher_that_a_swept_experiment_brings_along_is_taken_or_refused(folder: Path) -> None:
    (folder / "experiments").mkdir()
    for name, launcher in (("a", "joblib"), ("b", "joblib"), ("c", "basic")):
        (folder / "experiments" / f"{name}.yaml").write_text(
            f"# @package _global_\ndefaults:\n  - override /hydra/launcher: {launcher}\nquestion: {name}\n"
        )
    assert expanded("experiments=a,b").launches_elsewhere
    assert not expanded("experiments=c").launches_elsewhere
    with pytest.raises(ConfigError, match="different launchers"):
        expanded("experiments=a,c")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("optimizer=sgd,adamw", "optimizer.momentum=0.9"), "trial 1"),
        (("privacy.epsilon=2,-1,8",), "trial 1: config: privacy.epsilon=-1"),
        (("privacy.epsilon=2,8", "hydra.sweep.subdir=same"), "expected one of its own"),
        (("privacy.epsilon=2,8", "hydra.sweep.subdir=../${hydra.job.num}"), "expected one of its own"),
    ],
)
def test_one_trial_that_cannot_run_stops_all_of_them_before_anything_is_spent(
    words: tuple[str, ...], told: str, folder: Path, cli: Run
) -> None:
    ended = cli("train", "-m", *QUIET, *words)
    assert ended.code == 2, ended.out
    assert ended.err.count("\n") == 1
    assert told in ended.err
    assert not (folder / "dp_train.db").exists()
    assert not list(folder.glob("multirun/*/*/*"))


def test_who_withdraws_while_one_trial_trains_is_not_in_the_next_and_it_is_said(
    folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trials.run_trial
    left: list[str] = []

    def then_people_leave(job: trials.Job, shared: trials.SharedData | None = None) -> object:
        done = whole(job, shared)
        if not left:
            from dp_train.cli.main import main

            key, manifest = PrincipalKey.load("runs/principal.key"), read_manifest(job.folder.path)
            assert manifest is not None
            everyone = (person.person_id for person, _ in SyntheticCorpus(60, Population.PRIVATE).census())
            for person in [one for one in everyone if manifest.holds(key.pseudonym(one))][:5]:
                left.append(key.pseudonym(person))
                assert main(["consent", "withdraw", person]) == 0
        return done

    monkeypatch.setattr(trials, "run_trial", then_people_leave)
    ended = cli("train", "-m", *QUIET, "privacy.epsilon=2,8", "hydra.sweep.subdir=eps_${privacy.epsilon}")
    assert ended.code == 0, ended.err
    (study,) = folder.glob("multirun/*/*")
    first, second = (read_manifest(study / f"eps_{epsilon}") for epsilon in ("2.0", "8.0"))
    assert first is not None
    assert second is not None
    assert set(left) <= set(first.people)
    assert set(second.people) == set(first.people) - set(left)
    assert "consent changed since the trials before" in ended.out
    assert "they may differ in the people" in ended.out
    # In folders of any name: both in the table, and what they cost together.
    assert "eps_2.0" in ended.out
    assert "these 2 runs together: ε=" in ended.out
    listed = json.loads((study / "study.json").read_text())["trials"]
    assert [(row["folder"], row["state"]) for row in listed] == [("eps_2.0", "finished"), ("eps_8.0", "finished")]
    for name in ("eps_2.0", "eps_8.0"):
        verified = cli("report", str(study / name), "--verify")  # the line knows on whom its run began
        assert verified.code == 0, verified.err


def test_a_sweep_that_was_interrupted_goes_on_and_all_that_failed_is_said(
    folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trials.run_trial
    calls: list[str] = []

    def broken(job: trials.Job, shared: trials.SharedData | None = None) -> object:
        calls.append(job.trial.folder)
        if len(calls) == 2:
            raise KeyboardInterrupt
        raise ValueError("content of a row")

    monkeypatch.setattr(trials, "run_trial", broken)
    ended = cli("train", "-m", *QUIET, "privacy.epsilon=2,8")
    assert ended.code == 130
    (study,) = folder.glob("multirun/*/*")
    assert f"go on with: dp-train train --resume {study.relative_to(folder)}" in ended.out
    assert [row["state"] for row in json.loads((study / "study.json").read_text())["trials"]] == ["failed", "killed"]

    ended = cli("train", "--resume", str(study))  # the first fails once more, and now the second, too
    assert ended.code == 1
    assert "2 of 2 trials failed" in ended.err
    assert "content" not in ended.err + ended.out + (study / "study.json").read_text()

    monkeypatch.setattr(trials, "run_trial", whole)
    ended = cli("tradeoff", "--resume", str(study))  # either verb goes on with either kind
    assert ended.code == 0, ended.err
    shown = json.loads(cli("ledger", "show", "--json").out)["populations"][0]["runs"]
    assert [run["state"] for run in shown].count("committed") == 2


def test_trials_side_by_side_give_bit_for_bit_what_they_give_one_after_the_other(
    folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers forked from a process that has made the imports; those that get a signal below are spawned, as always.
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda method: processes.context())
    words = (*QUIET, "privacy.epsilon=2,8", "trainer.seed=7")
    for count in (1, 2):
        ended = cli("train", "-m", *words, f"study.workers={count}", f"hydra.sweep.dir=multirun/day/{count}")
        assert ended.code == 0, ended.err
        assert "these 2 runs together: ε=" in ended.out  # which trial it is separates their coins
        assert "chosen by the tuning people (evaluation.tune_on=split): trial " in ended.out
    for trial in ("0", "1"):
        one, two = (CheckpointFolder(folder / f"multirun/day/{w}/{trial}/checkpoint").load() for w in (1, 2))
        assert one is not None
        assert two is not None
        assert all((one.model[name] == two.model[name]).all() for name in one.model)


@pytest.mark.parametrize("how", ["study.workers=2", "launcher=joblib"])
def test_sigterm_to_a_parent_ends_its_workers_and_closes_lines_and_records(how: str, folder: Path, cli: Run) -> None:
    words = ("train", "-m", *SMALL, "privacy.epsilon=2,8", "trainer.steps=4000", "trainer.checkpoint_every=5", how)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-m", "dp_train", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 240
        while not list(folder.glob("multirun/*/*/*/checkpoint/step-*5")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "go on with: dp-train train --resume" in out
    (study,) = folder.glob("multirun/*/*")
    states = {row["state"] for row in json.loads((study / "study.json").read_text())["trials"]}
    assert "killed" in states
    assert not states & {"running"}
    runs = json.loads(cli("ledger", "show", "--json").out)["populations"][0]["runs"]
    assert [run["state"] for run in runs] == ["aborted", "aborted"]
    with sqlite3.connect(folder / "mlflow.db") as database:
        found = {status for (status,) in database.execute("select status from runs")}
    assert found == {"KILLED"}
