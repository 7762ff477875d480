"""`dp-train train`: one run, a sweep of runs with -m, or a run that was ended and goes on."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from dp_train.cli import sweep
from dp_train.cli.load_config import compose, compose_from, is_sweep, without_hydra
from dp_train.cli.plan import plan_table
from dp_train.cli.show import config_tree, console, gate_table, samples, scores_table
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.errors import ConfigError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.consent_recheck import taken_up
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.inventory import refuse_if_somebody_left
from dp_train.runs.plan import make_plan, warnings
from dp_train.runs.recipe import Recipe


def run(options: Namespace) -> int:
    """Train, and print plan, gate, progress, scores and where everything lies."""
    out = console()
    if options.resume is not None:
        return _resume(options, out)
    if options.multirun:
        return sweep.run(options, out)
    config, tree = compose_from(options)
    if is_sweep(tree):  # an experiment file may say so: hydra.mode=MULTIRUN
        return sweep.run(options, out)
    out.print(config_tree(without_hydra(tree)))
    plan = _show_plan(config, out)
    if config.dry_run:
        return 0
    return _train(config, without_hydra(tree), plan, Path(tree.hydra.run.dir), options.overrides, out)


def _resume(options: Namespace, out: Console) -> int:
    if options.overrides or options.multirun or options.from_run:
        raise ConfigError(
            "train: --resume goes on with a run as it was; it takes no key=value, -m or --from-run; "
            "use --from-run to start a changed one"
        )
    folder = RunFolder.find(options.resume)
    done = folder.read_json("result.json")
    if done.get("status") == "FINISHED":
        out.print(f"{folder.path}: finished already, {done.get('claim')}")
        return 0
    config, tree = compose([], stored=read_config(folder.config))
    moment = taken_up(folder, config)
    if moment is None:  # no store was asked when it began; one may have heard of a withdrawal all the same
        refuse_if_somebody_left(folder, config)
    return _train(config, without_hydra(tree), _show_plan(config, out), folder, [], out, moment)


def _show_plan(config: Recipe, out: Console) -> PrivacyPlan:
    plan = make_plan(config)
    out.print(plan_table(plan))
    for line in warnings(config, plan):
        out.print(line)
    return plan


def _train(
    config: Recipe,
    tree: DictConfig,
    plan: PrivacyPlan,
    where: Path | RunFolder,
    overrides: list[str],
    out: Console,
    moment: ConsentSnapshot | None = None,
) -> int:
    """Train into a new folder at a path, or go on in a folder that there is, with the decisions that it began with."""
    from dp_train.runs.checks import check_parts, check_recipe
    from dp_train.runs.prepare import material, prepare_machine
    from dp_train.runs.run import open_store, run_trial

    # Whatever can fail is found before anything but caches is written, and before anything is spent.
    prepare_machine(config)
    check_recipe(config)
    made = material(config, moment=moment)
    out.print(gate_table(made.populations.reports))
    path = where.path if isinstance(where, RunFolder) else where
    check_parts(config, made, [plan], folder=path, tell=out.print)
    store = open_store(config)
    folder = where if isinstance(where, RunFolder) else RunFolder.create(where, tree, overrides)
    outcome = run_trial(config, tree, made, plan, folder, store=store, out=out, overrides=overrides)
    if outcome.scores:
        out.print(scores_table(outcome.scores))
        samples(out, outcome.samples)
    out.print(f"[bold]{outcome.result.epsilon.describe()}[/]")
    out.print(f"run folder: {folder.path}")
    return 0
