"""`dp-train tradeoff`: what privacy costs in utility, from one starting point, by one loop.

For each study (one task): the public starting point, every ε of the grid, and no privacy, on the same
people. Ends with a table, the frontier as a picture, samples, and the address of the MLflow view.
"""

from __future__ import annotations

import copy
import secrets
import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from dp_train.cli.load_config import check, compose, compose_from, without_hydra
from dp_train.cli.plan import plan_table
from dp_train.cli.show import config_tree, console, gate_table, told
from dp_train.consent.manifest import FILE as PEOPLE
from dp_train.consent.manifest import PRIVATE
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.corpora.adapters.benchmark import WARNING
from dp_train.errors import ConfigError, DpTrainError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.consent_recheck import taken_up
from dp_train.runs.folder import RunFolder, plain, read_config
from dp_train.runs.inventory import refuse_if_somebody_left
from dp_train.runs.names import PrivacyMode
from dp_train.runs.plan import make_plan, warnings
from dp_train.runs.recipe import Recipe
from dp_train.tracking.provenance import public_config, public_overrides

if TYPE_CHECKING:
    from dp_train.cli.frontier import StudyReport
    from dp_train.privacy.ledger.ledger import Reservation
    from dp_train.runs.prepare import RunData
    from dp_train.tracking.run import TrackedRun
    from dp_train.tracking.store import TrackingStore


DEMO = "dp-train demo"
_BEGUN = "study.json"
"""Of a study's folder: the command that began it, without a seed, and the id of each run's line in the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One task's trade-off: its checked configuration and the tree that its trials are made from."""

    config: Recipe
    tree: DictConfig
    overrides: Sequence[str]


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a study: ε, or None without privacy, and which repetition of it."""

    epsilon: float | None
    trial: int

    @property
    def folder(self) -> str:
        """Name of its folder, such as "epsilon-8-trial-0"."""
        return f"{'no-privacy' if self.epsilon is None else f'epsilon-{self.epsilon:g}'}-trial-{self.trial}"


def run(options: Namespace) -> int:
    """One study, of the configuration that was asked for, or of a folder in which it was begun."""
    if options.resume is not None:
        return _resume(options)
    config, tree = compose_from(options)
    study = Study(config=config, tree=without_hydra(tree), overrides=options.overrides)
    words = [*(["--from-run", options.from_run] if options.from_run else []), *public_overrides(options.overrides)]
    command = shlex.join(["dp-train", "tradeoff", *words])
    return run_studies([study], Path(tree.hydra.run.dir), console(), command)


def _resume(options: Namespace) -> int:
    """A fixed seed is in no folder: runs that had not begun draw secret ones."""
    if options.overrides or options.from_run:
        raise ConfigError(
            "tradeoff: --resume goes on with a study as it was; it takes no key=value and no --from-run; "
            "use --from-run to start a changed one"
        )
    folder = RunFolder(Path(options.resume))
    command = folder.read_json(_BEGUN).get("command")
    if command is None or command == DEMO:
        raise ConfigError(f"tradeoff: {folder.path} holds no trade-off that was begun; expected the folder of one")
    config, tree = compose([], stored=read_config(folder.config))
    study = Study(config=config, tree=without_hydra(tree), overrides=[])
    return run_studies([study], folder, console(), command)


def points(config: Recipe) -> list[Point]:
    """The runs of a study, in the order in which they are made: one whole frontier before its repetition."""
    grid: list[float | None] = [*sorted(config.tradeoff.epsilons), *([None] if config.tradeoff.non_private else [])]
    return [Point(epsilon, trial) for trial in range(config.tradeoff.repeats) for epsilon in grid]


def at(tree: DictConfig, epsilon: float | None) -> tuple[Recipe, DictConfig]:
    """The configuration of one run of a study."""
    changed = copy.deepcopy(tree)
    mode = PrivacyMode.NONE if epsilon is None else PrivacyMode.DP
    OmegaConf.update(changed, "privacy", {"mode": mode, "epsilon": epsilon, "noise_multiplier": None})
    return check(changed), changed


def run_studies(studies: Sequence[Study], where: Path | RunFolder, out: Console, command: str) -> int:
    """Run every point of every study and report them together.

    Args:
      where: a new folder, or one in which the same studies were begun: runs that have finished are not run again.
      command: that began them.

    Raises:
      DpTrainError: some runs failed; the others are whole and were reported.
    """
    for study in studies:
        _announce(study, out)
    if any(study.config.dry_run for study in studies):
        return 0

    from dp_train.cli.frontier import draw, show_address, show_reports, write_table
    from dp_train.runs.checks import check_parts, check_recipe
    from dp_train.runs.populations import snapshot
    from dp_train.runs.prepare import material, prepare_machine
    from dp_train.runs.reservation import Declared, declare_together, released_if_unused
    from dp_train.runs.run import RESULT, finished_before, open_store

    first = studies[0].config
    prepare_machine(first)
    for study in studies:
        check_recipe(study.config)
    # Before anything is written: it reads every file of consent.
    moment = (_asked_again(where, first) if isinstance(where, RunFolder) else None) or snapshot(first)
    people = (first.corpus, first.consent)
    moments = {
        id(study): moment if (study.config.corpus, study.config.consent) == people else snapshot(study.config)
        for study in studies
    }
    path = where.path if isinstance(where, RunFolder) else where
    # Every study is read and checked before the first run of any is reserved.
    data = [material(study.config, moment=moments[id(study)]) for study in studies]
    for study, made in zip(studies, data, strict=True):
        out.print(gate_table(made.populations.reports))
        plans = [make_plan(at(study.tree, point.epsilon)[0]) for point in points(study.config)]
        check_parts(study.config, made, plans, folder=path, tell=out.print)
    store = open_store(first)
    demo = command == DEMO
    name = "demo" if demo else f"tradeoff {first.task.name}"
    folder = where if isinstance(where, RunFolder) else RunFolder.create(where, studies[0].tree, studies[0].overrides)
    reports: list[StudyReport] = []
    todo = [
        Declared(
            plan=plan,
            name=f"{study.config.task.name} {point.folder}",
            consent_root=moments[id(study)].root,
            reservation=identifier,
        )
        for (study, point, plan), identifier in _identified(studies, folder, command)
        if finished_before(study.config, plan, _trial(path, study, point)) is None
    ]
    waiting = iter(declare_together(first, todo, moment.population_id, out))
    try:
        with _parent(store, studies, name, folder, demo=demo) as parent, released_if_unused(waiting):
            for study, made in zip(studies, data, strict=True):
                reports.append(_run_study(study, made, path, store, parent, out, waiting))
            figure = draw(reports, path / "frontier", parent)
            write_table(reports, folder, command, figure, parent)
    except (SystemExit, KeyboardInterrupt):
        if not demo:
            out.print(f"go on with: dp-train tradeoff --resume {path}")
        raise
    show_reports(reports, out)
    if figure is not None:
        out.print(f"frontier: {figure}, as a table: {figure.with_suffix('.md')}")
    out.print(f"run folder: {path}")
    if parent is not None:
        show_address(parent, out)
    failed = sum(report.failed for report in reports)
    folder.write_json(RESULT, {"label": name, "status": "FAILED" if failed else "FINISHED"})
    if failed:
        raise DpTrainError(f"tradeoff: {failed} runs failed, see above; the others are whole in {path}")
    return 0


def _identified(
    studies: Sequence[Study], folder: RunFolder, command: str
) -> Iterator[tuple[tuple[Study, Point, PrivacyPlan], str]]:
    """Every run with the id of its line in the ledger, which is noted before there is a line."""
    runs = [
        (study, point, make_plan(at(study.tree, point.epsilon)[0]))
        for study in studies
        for point in points(study.config)
    ]
    noted = folder.read_json(_BEGUN).get("reservations")
    if noted is None:
        noted = {str(_trial(Path(), study, point).path): secrets.token_hex(8) for study, point, _ in runs}
        folder.write_json(_BEGUN, {"command": command, "reservations": noted})
    return ((run, str(noted[str(_trial(Path(), run[0], run[1]).path)])) for run in runs)


def _trial(path: Path, study: Study, point: Point) -> RunFolder:
    return RunFolder(path / study.config.task.name / point.folder)


def _asked_again(folder: RunFolder, config: Recipe) -> ConsentSnapshot | None:
    """The decisions that a study began with, once nobody who is in it took theirs back; None where no store was asked.

    Raises:
      ConsentError: somebody did: the runs that are left would have other people than those that have finished.
    """
    people = next(iter(sorted(folder.path.glob(f"*/*/{PRIVATE}/{PEOPLE}"))), None)
    if people is None:  # no run has begun
        return None
    begun = RunFolder(people.parents[1])
    moment = taken_up(begun, config)
    if moment is None:
        refuse_if_somebody_left(begun, config)
    return moment


@contextmanager
def _parent(
    store: TrackingStore | None, studies: Sequence[Study], name: str, folder: RunFolder, *, demo: bool
) -> Iterator[TrackedRun | None]:
    """The run that the trials of all studies are children of, taken up again on resume; None without a store."""
    from dp_train.runs.prepare import metric_of
    from dp_train.runs.run import experiment_name
    from dp_train.tracking.run import RunKind

    if store is None:
        yield None
        return
    known = folder.read_json("tracking.json").get("run_id")
    if known is not None:
        with store.resume_run(known) as run:
            yield run
        return
    metrics = [metric_of(study.config) for study in studies]
    experiment = store.experiment(experiment_name(studies[0].config), metrics=metrics)
    with store.start_run(experiment, name=name, kind=RunKind.DEMO if demo else RunKind.TRADEOFF) as run:
        folder.write_json("tracking.json", {"run_id": run.run_id, "experiment_id": experiment})
        # Each without its seed: one level down, the tracker would not know it for a seed.
        trees = {study.config.task.name: public_config(plain(study.tree)) for study in studies}
        run.log_provenance(trees, studies[0].overrides)
        if any(study.config.corpus.research_only for study in studies):
            run.set_tags({"dp_train.research_only": WARNING})
        yield run


def _announce(study: Study, out: Console) -> None:
    """What is asked and what it will spend, before anything is read."""
    out.print(config_tree(study.tree))
    for line in (study.config.question, study.config.hypothesis):
        if line:
            out.print(line)
    for epsilon in sorted(study.config.tradeoff.epsilons):
        config, _ = at(study.tree, epsilon)
        plan = make_plan(config)
        if config.dry_run:
            out.print(plan_table(plan))
        for line in warnings(config, plan):
            out.print(line)


def _run_study(
    study: Study,
    made: RunData,
    path: Path,
    store: TrackingStore | None,
    parent: TrackedRun | None,
    out: Console,
    reserved: Iterator[Reservation | None],
) -> StudyReport:
    from dp_train.cli.frontier import StudyReport
    from dp_train.runs.prepare import make_model
    from dp_train.runs.run import Family, finished_before, run_trial
    from dp_train.tasks.base import HasBaselines
    from dp_train.tracking.progress import ShowProgress

    config, task = study.config, made.task
    model, start = make_model(config, made, callbacks=[ShowProgress(f"{task.name}: public starting point", out)])
    start_scores: dict[str, float] = {}
    baselines: dict[str, dict[str, float]] = {}
    if made.evaluation:
        if start is not None or config.model.builder().pretrained:  # fresh weights are no start
            start_scores = task.evaluate(model, made.evaluation)
        public = [example for unit in made.public_units for example in unit]
        baselines = task.baselines(made.evaluation, public=public) if isinstance(task, HasBaselines) else {}
    if parent is not None:
        scores = {"public_start": start_scores, **baselines}
        parent.log_baselines({f"{by}/{name}": value for by, found in scores.items() for name, value in found.items()})
    todo = points(config)
    family = Family(
        parent_id=None if parent is None else parent.run_id,
        trials=len(todo),
        without_privacy=sum(point.epsilon is None for point in todo),
    )
    outcomes, failed = [], 0
    for point in todo:
        changed, tree = at(study.tree, point.epsilon)
        plan, folder = make_plan(changed), _trial(path, study, point)
        done = finished_before(changed, plan, folder)
        if done is not None:
            out.print(f"{task.name} {point.folder}: finished before")
            outcomes.append(done)
            continue
        reservation = next(reserved)
        try:
            if not folder.config.exists():
                RunFolder.create(folder.path, tree, study.overrides)
            outcomes.append(
                run_trial(
                    changed,
                    tree,
                    made,
                    plan,
                    folder,
                    store=store,
                    out=out,
                    overrides=study.overrides,
                    family=family,
                    reservation=reservation,
                )
            )
        except Exception as error:
            failed += 1
            told(f"{task.name} {point.folder}", error)
    return StudyReport(
        config=config,
        metric=task.metric,
        higher_is_better=task.higher_is_better,
        start_score=start_scores.get(task.metric),
        baselines={name: found[task.metric] for name, found in baselines.items()},
        outcomes=outcomes,
        failed=failed,
    )
