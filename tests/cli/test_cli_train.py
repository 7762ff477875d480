"""Runs from the command line: what a finished one leaves, how they go on, repeat, sweep and fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import SMALL, Ended, Run, signal_at_checkpoint

from dp_train.corpora.sample import CONSENT, CONVERSATIONS, KEY, write_sample
from dp_train.errors import CheckpointError
from dp_train.runs import trials
from dp_train.runs.config_paths import options
from dp_train.runs.folder import RunFolder
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.training.checkpoint import CheckpointFolder

QUIET = (*SMALL, "tracking=off")


def results(root: Path) -> dict[str, dict[str, object]]:
    return {str(path.parent.relative_to(root)): json.loads(path.read_text()) for path in root.rglob("result.json")}


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_run_leaves_config_versions_result_card_and_model(finished: Path) -> None:
    assert {"config.yaml", "overrides.yaml", "versions.json", "result.json", "card.md", "model/config.json"} <= files(
        finished
    )
    result = json.loads((finished / "result.json").read_text())
    assert result["status"] == "FINISHED"
    assert result["epsilon"] <= 8
    assert "perplexity" in result["scores"]
    assert "fixed by a user: the ε holds only while that seed is secret" in (finished / "card.md").read_text()


def test_a_fixed_seed_is_in_the_private_checkpoint_alone(finished: Path) -> None:
    for path in finished.parents[2].rglob("*"):
        if path.is_file() and "checkpoint" not in path.parts:
            assert b"987654321" not in path.read_bytes(), path


def test_the_model_of_a_run_scores_what_the_run_said(finished: Path, cli: Run) -> None:
    ended = cli("evaluate", str(finished), "--json")
    assert ended.code == 0
    assert json.loads(ended.out) == pytest.approx(json.loads((finished / "result.json").read_text())["scores"])


def test_a_draft_from_a_file_is_completed(finished: Path, tmp_path: Path, cli: Run) -> None:
    drafts = tmp_path / "drafts.txt"
    drafts.write_text("can you look\n\nthe [P1] build\n")
    ended = cli("generate", str(finished), "--file", str(drafts))
    assert ended.code == 0
    assert [line[:12] for line in ended.out.splitlines()] == ["can you look", "the [P1] bui"]


def test_a_finished_run_is_not_run_again(finished: Path, cli: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    ended = cli("train", "--resume", str(finished))
    assert ended.code == 0
    assert "finished already" in ended.out
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_from_run_repeats_a_run_with_values_changed(finished: Path, cli: Run) -> None:
    ended = cli("train", "--from-run", str(finished), "privacy.epsilon=null", "privacy.noise_multiplier=3")
    assert ended.code == 0
    repeated = next(run for run in RunFolder.all() if run.path.resolve() != finished)
    result = repeated.read_json("result.json")
    assert result["plan"]["noise_multiplier"] == 3
    assert result["starting_point"] == json.loads((finished / "result.json").read_text())["starting_point"]
    shutil.rmtree(repeated.path)


@pytest.mark.parametrize(
    "part",
    [f"engine={name}" for name in options("engine") if name != "ghost"]
    + ["engine.clipping=AUTOMATIC", "optimizer=sgd", "start=none"],
)
def test_every_engine_optimizer_and_start_trains(part: str, folder: Path, cli: Run) -> None:
    assert cli("train", *QUIET, part).code == 0


def test_ghost_refuses_several_rows_a_person_with_the_remedy(folder: Path, cli: Run) -> None:
    ended = cli("train", *QUIET, "engine=ghost", "privacy.rows_per_unit=2")
    assert ended.code != 0
    assert ended.err.count("\n") == 1
    assert "use engine bookkeeping" in ended.err


@pytest.mark.parametrize("trainable", ["ALL", "NORMS_AND_BIASES", "LAST_LAYERS", "LORA"])
def test_an_encoder_decoder_trains_whatever_part_of_it_is_trained(trainable: str, folder: Path, cli: Run) -> None:
    words = (
        "experiments=summary/quickstart",
        "model=tiny_seq2seq",
        "task.max_new_tokens=8",
        f"model.trainable={trainable}",
    )
    assert cli("train", *QUIET, *words).code == 0
    run = next(RunFolder.all())
    assert json.loads(cli("evaluate", str(run.path), "--json").out) == pytest.approx(
        run.read_json("result.json")["scores"]
    )


def test_dry_run_prints_the_plan_and_writes_nothing(folder: Path, cli: Run) -> None:
    for words in (["train"], ["train", "-m", "privacy.epsilon=1,2"], ["tradeoff"]):
        ended = cli(*words, *QUIET, "dry_run=true")
        assert ended.code == 0
        assert "noise multiplier σ" in ended.out
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "told"),
    [(None, "No such file"), ('{"conversation_id": "c1"}\n', "row 1"), ("not json\n", "row 1")],
)
def test_a_file_that_cannot_be_read_leaves_no_run(rows: str | None, told: str, folder: Path, cli: Run) -> None:
    private, consent = folder / "private.jsonl", folder / "consent.jsonl"
    consent.write_text("")
    if rows is not None:
        private.write_text(rows)
    (folder / "p.key").write_text("11" * 32)
    (folder / "p.key").chmod(0o600)
    before = files(folder)
    corpus = ("corpus=jsonl", f"corpus.private={private}", f"consent.events={consent}", "consent.key=p.key")
    for verb in ("train", "validate"):
        ended = cli(verb, *QUIET, *corpus)
        assert ended.code == 3
        assert ended.err.count("\n") == 1
        assert told in ended.err
    assert files(folder) == before


def test_a_file_of_conversations_is_trained_on_by_its_own_consent(folder: Path, cli: Run) -> None:
    write_sample(folder)
    corpus = (
        *("corpus=jsonl", f"corpus.private={CONVERSATIONS.name}"),
        *(f"consent.events={CONSENT.name}", f"consent.key={KEY.name}", "consent.as_of=2026-02-01T00:00:00+00:00"),
        "+consent.material_versions.conversation-features=2",
    )
    ended = cli("validate", *QUIET, *corpus)
    assert ended.code == 0
    assert "valid" in ended.out.splitlines()
    assert "denied: withdrawn" in ended.out
    assert files(folder) == {CONVERSATIONS.name, CONSENT.name, KEY.name}
    unpublished = cli("validate", *QUIET, *corpus, f"corpus.evaluation={CONVERSATIONS.name}")
    assert unpublished.code == 3
    assert "corpus.evaluation: no conversation passes the gate, most often for: no_record" in unpublished.err
    assert cli("train", *QUIET, *corpus).code == 0


def test_conversations_without_consent_events_are_refused(folder: Path, cli: Run) -> None:
    (folder / "private.jsonl").write_text("")
    ended = cli("train", *QUIET, "corpus=jsonl", "corpus.private=private.jsonl")
    assert ended.code == 2
    assert "without consent nothing is trained" in ended.err


def test_a_working_folder_that_cannot_be_written_is_one_line(folder: Path, cli: Run) -> None:
    (folder / "runs").write_text("a file in the way")
    ended = cli("train", *QUIET)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "cannot be written" in ended.err
    assert files(folder) == {"runs"}


def test_a_store_that_cannot_be_written_is_found_before_anything_is_trained(folder: Path, cli: Run) -> None:
    (folder / "blocked").write_text("a file in the way")
    ended = cli("train", *SMALL, "tracking.uri=sqlite:///blocked/mlflow.db")
    assert ended.code == 8
    assert ended.err.count("\n") == 1
    written = {path for path in files(folder) if not path.startswith("runs/units/")}  # a cache of rows
    assert written == {"blocked"}


def test_a_sweep_with_a_failing_trial_leaves_the_others_and_closes_its_parent(
    folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trials.run_trial

    def failing(job: trials.Job, shared: trials.SharedData | None = None) -> object:
        if job.trial.folder == "1":
            raise CheckpointError("run folder: the disk is full; free space")
        return whole(job, shared)

    monkeypatch.setattr(trials, "run_trial", failing)
    words = ("trainer.seed=987654321", "privacy.epsilon=2,4,8")
    ended = cli("train", "-m", *SMALL, *words)
    assert ended.code == 1
    assert "trial 1 privacy.epsilon=4: run folder: the disk is full" in ended.err
    assert "1 of 3 trials failed" in ended.err
    sweep = next(folder.glob("multirun/*/*"))
    assert {name: found["status"] for name, found in results(sweep).items()} == {"0": "FINISHED", "2": "FINISHED"}
    listed = json.loads((sweep / "study.json").read_text())["trials"]
    assert [row["state"] for row in listed] == ["finished", "failed", "finished"]
    tracked = results(sweep)["2"]["mlflow_run_id"]
    with sqlite3.connect(folder / "mlflow.db") as database:
        parent = "select status from runs join tags using (run_uuid) where key = 'dp_train.kind' and value = ?"
        assert database.execute(parent, ("sweep",)).fetchall() == [("FINISHED",)]
        assert database.execute(parent, ("train",)).fetchall() == [("FINISHED",)] * 2
        children = "select count(*) from tags where key = 'mlflow.parentRunId'"
        assert database.execute(children).fetchone() == (2,)
        assert "987654321" not in "".join(database.iterdump())
    shutil.rmtree(sweep)
    ended = cli("plan", "--json", "--from-run", str(tracked))
    assert json.loads(ended.out)["epsilon"] == pytest.approx(8, rel=0.01)
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in {".yaml", ".json", ".md", ".txt"}:
            assert "987654321" not in path.read_text(), path


def test_a_tradeoff_shows_every_point_and_the_baselines(folder: Path, cli: Run) -> None:
    ended = cli("tradeoff", *QUIET)
    assert ended.code == 0
    for word in (
        "public starting point",
        "2.00",
        "8.00",
        "without privacy",
        "trigram",
        "frontier.png",
        "these 4 runs together: no ε (2 of them had no privacy)",
    ):
        assert word in ended.out
    run = next(folder.glob("runs/*/*/frontier.png")).parent
    found = results(run)
    assert {name for name in found if name != "."} == {
        f"chat_compose/{name}-trial-0" for name in ("epsilon-2", "epsilon-8", "no-privacy", "best-rate-0.001")
    }
    assert len({str(one["starting_point"]) for name, one in found.items() if name != "."}) == 1


def test_the_demo_trains_both_tasks_and_prints_one_address(folder: Path, cli: Run) -> None:
    words = [word for word in SMALL if not word.startswith(("experiments=", "task."))]
    words += ["task.max_length=64", "task.max_new_tokens=8", "tradeoff.epsilons=[8]"]
    ended = cli("demo", *words, "trainer.seed=987654321")
    assert ended.code == 0, ended.err
    for word in ("rougeL", "perplexity", "lead 3", "trigram", "denied: withdrawn", "sample 1", "dp-train ui"):
        assert word in ended.out
    assert "#/experiments/1/runs?viewStateShareKey=" in ended.out
    with sqlite3.connect(folder / "mlflow.db") as database:
        kinds = "select value, count(*) from tags where key = 'dp_train.kind' group by value order by value"
        assert database.execute(kinds).fetchall() == [("demo", 1), ("train", 6)]
        assert "987654321" not in "".join(database.iterdump())
    artifacts = {path.name for path in (folder / "mlartifacts").rglob("*") if path.is_file()}
    assert {"frontier.png", "config.yaml", "overrides.yaml", "card.md", "samples.json"} <= artifacts
    for path in folder.rglob("*"):
        if path.is_file() and "checkpoint" not in path.parts:
            assert b"987654321" not in path.read_bytes(), path


def test_sigterm_ends_a_run_cleanly_and_resume_finishes_it(
    folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        signal_at_checkpoint(patched, signal.SIGTERM)
        ended = cli("train", *QUIET, "trainer.steps=8", "trainer.checkpoint_every=2")
    assert (ended.code, ended.err) == (143, "")
    assert "ended by SIGTERM" in ended.out
    assert "spent: ε=" in ended.out
    run = next(folder.glob("runs/*/*/result.json")).parent
    assert json.loads((run / "result.json").read_text())["status"] == "KILLED"
    assert cli("evaluate", str(run)).code == 6
    assert cli("train", "--resume", str(run)).code == 0
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["steps"]) == ("FINISHED", 8)
    state = CheckpointFolder(run / "checkpoint").load()
    assert state is not None
    assert state.seeds is None
    assert all(torch.isfinite(tensor).all() for tensor in state.model.values())


def _from_outside(number: signal.Signals, folder: Path) -> Ended:
    """Train in a process of its own, and send it a signal when its model lies there: it is being scored then."""
    words = (*SMALL, "corpus.evaluation_people=150", "evaluation.examples=400")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-m", "dp_train", "train", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 240
        while not list(folder.glob("runs/*/*/model")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    return Ended(code=process.returncode, out=out, err=err)


@pytest.mark.parametrize(("number", "outside"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_a_signal_during_the_last_scoring_is_at_most_one_line_and_resume_scores(
    number: signal.Signals, outside: bool, folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    if outside:
        ended = _from_outside(number, folder)
    else:
        before = signal.signal(number, signal.default_int_handler)  # tests in the background ignore Ctrl-C
        with monkeypatch.context() as patched:
            patched.setattr(ChatCompose, "scores_and_curve", lambda *_: signal.raise_signal(number))
            ended = cli("train", *SMALL)
        signal.signal(number, before)
    assert ended.code == 128 + number, ended.err
    assert ended.err in ("", "interrupted\n")
    assert "go on with: dp-train train --resume" in ended.out
    run = next(folder.glob("runs/*/*/config.yaml")).parent
    assert not (run / "result.json").exists()
    (row,) = [line for line in cli("ls", "runs").out.splitlines() if run.name in line]
    assert "trained, not scored" in row
    for status in ("KILLED", "FINISHED"):
        with sqlite3.connect(folder / "mlflow.db") as database:
            assert database.execute("select status from runs").fetchall() == [(status,)]
        ended = cli("train", "--resume", str(run))
        assert ended.code == 0, ended.err
    assert json.loads((run / "result.json").read_text())["scores"]
    (line,) = json.loads(cli("ledger", "show", "--json").out)["populations"][0]["runs"]
    assert line["state"] == "committed"
