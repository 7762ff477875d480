"""`dp-train tradeoff`: what privacy costs in utility, from one starting point, by one loop.

For each task: the public starting point, every ε of the grid, and no privacy, on the same people. Ends with a table,
the frontier as a picture, samples, and the address of the MLflow view.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from dp_train.cli import study as studies
from dp_train.cli.load_config import compose_from
from dp_train.cli.phases import Phases
from dp_train.cli.plan import plan_table
from dp_train.cli.show import ShowRun, config_tree, console, gate_table
from dp_train.runs.folder import RunFolder
from dp_train.runs.plan import warnings
from dp_train.runs.recipe import Recipe, recipe_values

_PEOPLE = "people, consent and checks"

if TYPE_CHECKING:
    from dp_train.runs.prepare import Parts
    from dp_train.runs.result import RunResult
    from dp_train.runs.study import Study, Trial
    from dp_train.runs.study_report import StudyReport
    from dp_train.runs.trials import SharedData
    from dp_train.tracking.run import TrackedRun


def run(options: Namespace) -> int:
    """One task's trade-off, of the configuration that was asked for, or what is left of a study."""
    out = console()
    if options.resume is not None:
        seed = studies.seed_of(options)
        return studies.resume(options.resume, out, seed=seed)
    config, tree = compose_from(options)
    command = studies.command_of("tradeoff", options.overrides, options.from_run)
    return run_tasks([config], Path(tree.hydra.run.dir), out, command, [options.overrides])


def run_tasks(
    recipes: Sequence[Recipe], where: Path, out: Console, command: str, overrides: Sequence[Sequence[str]]
) -> int:
    """Run every point of every task in a new folder, and report them together.

    Raises:
      DpTrainError: some runs failed; the others are whole and were reported.
    """
    from dp_train.runs.grid import tradeoff_trials
    from dp_train.runs.study import Kind, Study
    from dp_train.runs.tracker import open_store
    from dp_train.runs.trials import SharedData, check

    grids = [tradeoff_trials(recipe, overrides=tuple(words)) for recipe, words in zip(recipes, overrides, strict=True)]
    for recipe, trials in zip(recipes, grids, strict=True):
        _announce(recipe, trials, out)
    if any(recipe.dry_run for recipe in recipes):
        return 0
    trials = [trial for grid in grids for trial in grid]
    shared, phases = SharedData(), Phases(_PEOPLE)
    check(trials, shared)
    open_store(recipes[0])  # fails before anything is written
    kind = Kind.DEMO if command == studies.DEMO else Kind.TRADEOFF
    study = Study.begin(RunFolder(where), kind, command, trials, overrides=overrides[0], recipe=recipes[0])
    return go(study, out, (shared, phases))


def go(study: Study, out: Console, begun: tuple[SharedData, Phases] | None = None) -> int:
    """Run what is left of a trade-off, and report all of it.

    Args:
      begun: of trials that were all checked just now.
    """
    from dp_train.cli.frontier import draw, note_on_cards, own_claims, show_address, show_reports, write_table
    from dp_train.runs.result import RESULT
    from dp_train.runs.study import Kind
    from dp_train.runs.tracker import open_store
    from dp_train.runs.trials import SharedData, check

    shared, phases = begun or (SharedData(), Phases(_PEOPLE))
    if begun is None:
        check([trial for trial in study.trials if study.finished(trial) is None], shared)
    store = open_store(study.trials[0].recipe)
    by_task: dict[str, Recipe] = {}
    for trial in study.trials:  # the first, which is private: the baseline `best` bounds no person
        by_task.setdefault(trial.recipe.task.name, trial.recipe)
    starts: dict[object, _Start] = {}
    reports: list[StudyReport] = []
    path, figure, opened = study.folder.path, None, None
    name = "demo" if study.kind is Kind.DEMO else f"tradeoff {study.trials[0].recipe.task.name}"

    def before(parent: TrackedRun | None) -> None:
        phases.begin("public starting points")
        for task, recipe in by_task.items():
            starts[task] = _Start(recipe, shared.prepared(recipe), out)
        phases.begin("trials")

    def meanwhile(parent: TrackedRun | None) -> None:
        for start in starts.values():
            start.score(parent)

    def after(results: Mapping[str, RunResult], parent: TrackedRun | None) -> None:
        nonlocal figure, opened
        phases.begin("table and pictures")
        for task, recipe in by_task.items():
            outcomes = [
                results[trial.folder]
                for trial in study.trials
                if trial.folder in results and trial.recipe.task.name == task
            ]
            reports.append(starts[task].report(recipe, outcomes))
        claims = [*own_claims(reports), *studies.claims(study)]
        note_on_cards(reports, parent is not None)
        figure = draw(reports, path / "frontier", parent)
        write_table(reports, claims, study.folder, study.command, figure, parent)
        show_reports(reports, claims, out)
        opened = parent

    studies.train_all(study, shared, out, store=store, before=before, meanwhile=meanwhile, after=after, title=name)
    if figure is not None:
        out.print(f"frontier: {figure}, as a table: {figure.with_suffix('.md')}")
    out.print(f"run folder: {path}")
    if opened is not None:
        show_address(opened, out)
    failed = sum(len(report.outcomes) for report in reports) < len(study.trials)
    phases.show(out)
    study.folder.write_json(RESULT, {"label": name, "status": "FAILED" if failed else "FINISHED"})
    studies.raise_if_failed(study)
    return 0


class _Start:
    """What a task begins with: its public starting point, made here where there is none yet, and simple rules."""

    def __init__(self, recipe: Recipe, parts: Parts, out: Console) -> None:
        from dp_train.runs.starting import make_model

        self._recipe, self._data = recipe, parts.data
        out.print(gate_table(parts.funnel))
        progress = ShowRun(out).progress(f"{recipe.task.name}: public starting point")
        self._model, start = make_model(recipe, parts.data, callbacks=progress)
        self._is_a_start = start is not None or recipe.model.builder().pretrained  # fresh weights are none
        self._scores: dict[str, float] = {}
        self._baselines: dict[str, float] = {}

    def score(self, parent: TrackedRun | None) -> None:
        """Score it, and the rules that learn nothing."""
        from dp_train.tasks.base import HasBaselines

        data, task = self._data, self._data.task
        if not data.evaluation:
            return
        scores = task.evaluate(self._model, data.evaluation) if self._is_a_start else {}
        baselines: dict[str, dict[str, float]] = {}
        if isinstance(task, HasBaselines):
            public = [example for unit in data.public_units for example in unit]
            baselines = task.baselines(data.evaluation, public=public)
        if parent is not None:
            found = {"public_start": scores, **baselines}
            parent.log_baselines({f"{by}/{name}": value for by, all_ in found.items() for name, value in all_.items()})
        self._scores = scores
        self._baselines = {name: found[task.metric] for name, found in baselines.items()}

    def report(self, recipe: Recipe, outcomes: Sequence[RunResult]) -> StudyReport:
        from dp_train.runs.study_report import StudyReport

        return StudyReport(
            config=recipe,
            metric=self._data.task.metric,
            higher_is_better=self._data.task.higher_is_better,
            start_score=self._scores.get(self._data.task.metric),
            baselines=self._baselines,
            outcomes=outcomes,
        )


def _announce(recipe: Recipe, trials: Sequence[Trial], out: Console) -> None:
    """What is asked and what it will spend, before anything is read."""
    out.print(config_tree(recipe_values(recipe)))
    for line in (recipe.question, recipe.hypothesis):
        if line:
            out.print(line)
    for trial in trials:
        if trial.plan.private and trial.folder.endswith("trial-0"):
            if recipe.dry_run:
                out.print(plan_table(trial.plan))
            for line in warnings(trial.recipe, trial.plan):
                out.print(line)
