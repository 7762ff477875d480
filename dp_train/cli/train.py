"""`dp-train train`: one run, a sweep of runs with -m, or a run that was ended and goes on."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rich.console import Console

from dp_train.cli import study as studies
from dp_train.cli.load_config import compose, compose_from, is_sweep, without_hydra
from dp_train.cli.plan import plan_table
from dp_train.cli.show import ShowRun, config_tree, console, gate_table, samples, scores_table, show_beside, stopped
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.runs.consent_recheck import snapshot_to_resume
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.plan import make_plan, warnings
from dp_train.runs.recipe import Recipe, recipe_values


def run(options: Namespace) -> int:
    """Train, and print plan, gate, progress, scores and where everything lies."""
    out = console()
    if options.resume is not None:
        return _resume(options, out)
    if options.multirun:
        return _sweep(options, out)
    config, tree = compose_from(options)
    if is_sweep(tree):  # an experiment file may say so: hydra.mode=MULTIRUN
        return _sweep(options, out)
    out.print(config_tree(without_hydra(tree)))
    _show_plan(config, out)
    if config.dry_run:
        return 0
    return _train(config, Path(tree.hydra.run.dir), options.overrides, out)


def _sweep(options: Namespace, out: Console) -> int:
    from dp_train.cli import sweep

    return sweep.run(options, out)


def _resume(options: Namespace, out: Console) -> int:
    seed = studies.seed_of(options)
    if studies.find(options.resume) is not None:
        return studies.resume(options.resume, out, seed=seed)
    folder = RunFolder.find(options.resume)
    done = folder.read_json("result.json")
    if done.get("status") == "FINISHED":
        out.print(f"{folder.path}: finished already, {done.get('claim')}")
        return 0
    config, _ = compose([] if seed is None else [f"trainer.seed={seed}"], stored=read_config(folder.config))
    snapshot = snapshot_to_resume(folder, config)
    _show_plan(config, out)
    return _train(config, folder, [], out, snapshot)


def _show_plan(config: Recipe, out: Console) -> None:
    plan = make_plan(config)
    out.print(plan_table(plan))
    for line in warnings(config, plan):
        out.print(line)


def _train(
    config: Recipe,
    where: Path | RunFolder,
    overrides: list[str],
    out: Console,
    snapshot: ConsentSnapshot | None = None,
) -> int:
    """Train into a new folder at a path, or continue one that there is, with the decisions that it began with."""
    from dp_train.runs.checks import check_parts, check_recipe
    from dp_train.runs.prepare import prepare
    from dp_train.runs.run import run as run_parts
    from dp_train.runs.tracker import tracker_of

    # Whatever can fail is found before anything but caches is written, and before anything is spent.
    check_recipe(config)
    parts = prepare(config, snapshot=snapshot)
    out.print(gate_table(parts.funnel))
    path = where.path if isinstance(where, RunFolder) else where
    check_parts(config, parts.data, [parts.plan], folder=path, tell=out.print)
    tracker = tracker_of(config)
    folder = where if isinstance(where, RunFolder) else RunFolder.create(where, recipe_values(config), overrides)
    show_beside(config, parts.plan, parts.data.units.selection)  # after what may refuse: an error is one line
    try:
        outcome = run_parts(parts, folder, tracker=tracker, reporter=ShowRun(out), overrides=overrides)
    except (SystemExit, KeyboardInterrupt):  # outside of training, which ends in order
        out.print(f"go on with: dp-train train --resume {folder.path}")
        raise
    if outcome.result.stopped_by is not None:
        raise stopped(outcome, out)
    if outcome.scores:
        out.print(scores_table(outcome.scores))
        samples(out, outcome.samples)
    out.print(f"[bold]{outcome.result.epsilon.describe()}[/]")
    out.print(f"run folder: {outcome.folder.path}")
    return 0
