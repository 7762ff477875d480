"""A trade-off that was interrupted goes on with what is left, leaves a table to quote, and tells nothing private."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from small_runs import SMALL, Run

from dp_train.cli.load_config import compose
from dp_train.cli.show import console
from dp_train.cli.tradeoff import run_tasks
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.plan import Unit
from dp_train.runs import trials
from dp_train.runs.folder import RunFolder
from dp_train.runs.grid import tradeoff_trials
from dp_train.runs.recipe import recipe_values
from dp_train.runs.study import Kind, Study
from dp_train.tracking.figures import FrontierPanel, draw_frontier

POINTS = ("epsilon-2-trial-0", "epsilon-8-trial-0", "no-privacy-trial-0", "best-rate-0.001-trial-0")


def test_a_tradeoff_that_was_interrupted_goes_on_with_what_is_left(
    folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trials.run_trial

    def interrupted(job: trials.Job, shared: trials.SharedData | None = None) -> object:
        if "epsilon-8" in job.trial.folder:
            raise KeyboardInterrupt
        return whole(job, shared)

    monkeypatch.setattr(trials, "run_trial", interrupted)
    ended = cli("tradeoff", *SMALL)
    assert ended.code == 130
    path = next(folder.glob("runs/*/*/study.json")).parent
    states = [row["state"] for row in json.loads((path / "study.json").read_text())["trials"]]
    assert states == ["finished", "killed", "planned", "planned"]
    assert f"go on with: dp-train tradeoff --resume {path.relative_to(folder)}" in ended.out
    first = path / "chat_compose" / POINTS[0] / "result.json"
    before = (first.read_bytes(), first.stat().st_mtime_ns)

    monkeypatch.setattr(trials, "run_trial", whole)
    drawn: list[FrontierPanel] = []

    def draws(panels: Sequence[FrontierPanel], where: Path) -> tuple[Path, Path]:
        drawn.extend(panels)
        return draw_frontier(panels, where)

    monkeypatch.setattr("dp_train.cli.frontier.draw_frontier", draws)
    ended = cli("tradeoff", "--resume", str(path))
    assert ended.code == 0, ended.err
    assert [panel.unit for panel in drawn] == [Unit.USER]  # of the private runs, whatever the baselines bound
    assert ended.out.count("finished before") == 1
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before
    assert all((path / "chat_compose" / name / "card.md").exists() for name in POINTS)
    # Each run has one line, and each was charged once.
    ledger = Ledger.open(f"sqlite:///{folder}/dp_train.db")
    assert [line.state.value for line in ledger.book().lines.values()] == ["committed"] * 4
    ledger.close()

    table = (path / "frontier.md").read_text().splitlines()
    assert table[0] == "    " + shlex.join(["dp-train", "tradeoff", *SMALL])
    assert sum(line.startswith("| chat_compose | private | ") for line in table) == 2
    # One rate, and no study before: the table says that it is not known to be tuned.
    assert sum(line.startswith("| chat_compose | without privacy † | ") for line in table) == 1
    assert sum(line.startswith("| chat_compose | best without bounds † | ") for line in table) == 1
    assert any(line.startswith("- † chat_compose best without bounds: rate 0.001, 12 steps; DOUBT:") for line in table)
    # Every card of the study says what both baselines gave.
    for name in POINTS:
        card = json.loads((path / "chat_compose" / name / "card.json").read_text())
        assert {"without privacy", "best without bounds"} <= card["compared with"].keys()
        assert "perplexity" in card["compared with"]["best without bounds"]
    shipped = json.loads((path / "chat_compose" / POINTS[0] / "result.json").read_text())["scores"]
    assert shipped["tuning_perplexity"] != shipped["perplexity"]
    assert any("| person |" in line for line in table)
    assert table[-1] == "![utility against ε](frontier.png)"
    assert (path / "suggestions.png").stat().st_size > 0

    # What the training text was asked for stands in the private folders, and nowhere else.
    statistics = json.loads((path / "chat_compose" / POINTS[2] / "private" / "statistics.json").read_text())
    assert statistics.keys() >= {"verbatim_output_longest", "verbatim_reference_longest"}
    for file in folder.rglob("*"):
        if file.is_file() and "private" not in file.parts and file.name != "changes.diff":  # of the code itself
            assert b"verbatim" not in file.read_bytes(), file
    stored = b"".join(file.read_bytes() for file in folder.glob("mlflow.db*"))
    assert b"suggestions/accepted" in stored  # the search does see the store


@pytest.mark.parametrize(
    ("words", "told"),
    [(("--resume", "nowhere"), "holds no study"), (("--resume", "x", "privacy.epsilon=1"), "takes no key=value")],
)
def test_what_cannot_go_on_is_one_line(words: tuple[str, ...], told: str, folder: Path, cli: Run) -> None:
    ended = cli("tradeoff", *words)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert told in ended.err
    assert list(folder.iterdir()) == []


def test_overlap_is_logged_on_request_and_taints_the_run(folder: Path, cli: Run) -> None:
    assert cli("train", *SMALL, "tracking.log_private_statistics=true").code == 0
    stored = b"".join(file.read_bytes() for file in folder.glob("mlflow.db*"))
    assert b"train/verbatim_output_longest" in stored
    assert b"privacy.tainted" in stored
    (card,) = folder.glob("runs/*/*/card.md")
    assert "stands in the training text, which this run logged on request" in card.read_text()


def test_studies_of_unlike_people_stand_in_the_ledger_under_their_own_snapshots(folder: Path, cli: Run) -> None:
    shared = [word for word in SMALL if not word.startswith(("experiments=", "task.", "tradeoff.", "corpus.people"))]
    shared += ["task.max_length=64", "tracking=off", "tradeoff.epsilons=[8]", "tradeoff.non_private=false"]
    recipes, typed = [], []
    for task, people in (("compose", 60), ("summary", 80)):
        typed.append([f"experiments={task}/quickstart", *shared, f"corpus.people={people}", "task.max_new_tokens=8"])
        recipes.append(compose(typed[-1])[0])
    assert run_tasks(recipes, folder / "runs" / "day" / "study", console(), "tradeoff", typed) == 0
    results = list(folder.glob("runs/day/study/*/*/result.json"))
    assert len({json.loads(path.read_text())["consent_root"] for path in results}) == 2
    for path in results:
        verified = cli("report", str(path.parent), "--verify")
        assert verified.code == 0, verified.err


def test_a_study_is_no_run_of_a_withdrawal_and_ls_says_where_it_is(folder: Path, cli: Run) -> None:
    recipe, _ = compose(["experiments=compose/quickstart", "tradeoff.epsilons=[2]"])
    study = Study.begin(RunFolder(Path("runs/day/s")), Kind.TRADEOFF, "again", tradeoff_trials(recipe), recipe=recipe)
    never = RunFolder.create(Path("runs/day/never"), recipe_values(recipe))
    ended = cli("consent", "withdraw", "p00001")
    assert ended.code == 0, ended.err
    assert "keep" not in ended.out
    (never.path / "model").mkdir()  # of a version that kept no list
    assert "1 run keeps no list of people" in cli("consent", "withdraw", "p00001").out
    listed = cli("ls", "runs").out
    assert "experiment" not in listed
    assert all(str(path) in listed for path in (study.folder.path, never.path))
