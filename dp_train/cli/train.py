"""`dp-train train`: one run, a sweep of runs with -m, or a run that was ended and goes on."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.console import Console

from dp_train.cli import study as studies
from dp_train.cli.load_config import compose, compose_from, is_sweep, without_hydra
from dp_train.cli.plan import plan_table
from dp_train.cli.show import ShowRun, config_tree, console, gate_table, samples, scores_table, show_beside, stopped
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.engines.launched import launched
from dp_train.errors import ConfigError, ProcessesError
from dp_train.runs.consent_recheck import snapshot_to_resume
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.plan import make_plan, warnings
from dp_train.runs.processes import others_started, refuse_several_processes
from dp_train.runs.recipe import Recipe, recipe_values

if TYPE_CHECKING:
    from dp_train.engines.ranks import Ranks

_PROCESSES = re.compile(r"trainer\.processes=([1-9][0-9]*)")


def run(options: Namespace) -> int:
    """Train, and print plan, gate, progress, scores and where everything lies."""
    if launched():
        return _as_one_of_several(options)
    out = console()
    if options.resume is not None:
        return _resume(options, out)
    if options.multirun:
        return _sweep(options, out)
    config, tree = compose_from(options)
    if is_sweep(tree):  # an experiment file may say so: hydra.mode=MULTIRUN
        return _sweep(options, out)
    if config.trainer.processes > 1 and not config.dry_run:
        return _with_others(config.trainer.processes, options)
    return _begin(config, tree, options, out)


def _begin(config: Recipe, tree: DictConfig, options: Namespace, out: Console, ranks: Ranks | None = None) -> int:
    out.print(config_tree(without_hydra(tree)))
    _show_plan(config, out)
    if config.dry_run:
        return 0
    return _train(config, Path(tree.hydra.run.dir), options.overrides, out, ranks=ranks)


def _with_others(count: int, options: Namespace) -> int:
    """Start the other processes on this machine, and be the first of them."""
    with others_started(count, options.typed):
        return _as_one_of_several(options)


def _as_one_of_several(options: Namespace) -> int:
    """Be one of the processes of a run: the first one runs it, and the others assist."""
    from dp_train.engines.ranks import joined
    from dp_train.runs.assist import PREPARING_SECONDS, assist, dismiss

    fresh = options.resume is None
    try:
        with joined(wait_seconds=PREPARING_SECONDS) as ranks:
            if not ranks.first:
                assist(ranks, (lambda: compose_from(options)[0]) if fresh else None)
                return 0
            code = _be_first(options, ranks)
            dismiss(ranks)
            return code
    except ProcessesError as error:
        if os.environ["RANK"] == "0":
            raise
        return error.exit_code  # the first process tells why


def _be_first(options: Namespace, ranks: Ranks) -> int:
    """Run what the processes were started for.

    Raises:
      ConfigError: a sweep; or torchrun started the processes again, and the command line begins a run.
    """
    from dp_train.runs.assist import of_processes

    if options.resume is not None:
        return _resume(options, console(), ranks)
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if again != "0":
        raise ConfigError(
            f"torchrun: TORCHELASTIC_RESTART_COUNT={again}, and a new run would spend again; expected the run that was "
            "begun; go on with dp-train train --resume FOLDER, which may be restarted as often as need be"
        )
    config, tree = compose_from(options)
    if options.multirun or is_sweep(tree):
        refuse_several_processes()
    return _begin(of_processes(config, ranks.size), tree, options, console(), ranks)


def _sweep(options: Namespace, out: Console) -> int:
    from dp_train.cli import sweep

    return sweep.run(options, out)


def _resume(options: Namespace, out: Console, ranks: Ranks | None = None) -> int:
    asked, words = _processes_of(options.overrides)
    study = studies.find(options.resume) is not None
    seed = studies.seed_of(options if study else Namespace(**{**vars(options), "overrides": words}))
    if study:
        refuse_several_processes()
        return studies.resume(options.resume, out, seed=seed)
    folder = RunFolder.find(options.resume)
    done = folder.read_json("result.json")
    if done.get("status") == "FINISHED":
        out.print(f"{folder.path}: finished already, {done.get('claim')}")
        return 0
    config, _ = compose([] if seed is None else [f"trainer.seed={seed}"], stored=read_config(folder.config))
    count = ranks.size if ranks is not None else asked or config.trainer.processes
    if count > 1 and ranks is None:
        return _with_others(count, options)
    config = replace(config, trainer=replace(config.trainer, processes=count))
    snapshot = snapshot_to_resume(folder, config)
    _show_plan(config, out)
    return _train(config, folder, [], out, snapshot, ranks=ranks)


def _processes_of(words: Sequence[str]) -> tuple[int | None, list[str]]:
    """What trainer.processes=NUMBER says among words, and the others: a run goes on with any number of processes."""
    found = [match for word in words if (match := _PROCESSES.fullmatch(word))]
    rest = [word for word in words if not _PROCESSES.fullmatch(word)]
    return (int(found[-1][1]) if found else None), rest


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
    *,
    ranks: Ranks | None = None,
) -> int:
    """Train into a new folder at a path, or continue one that there is, with the decisions that it began with."""
    from dp_train.engines.ranks import ALONE
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
        outcome = run_parts(
            parts, folder, tracker=tracker, reporter=ShowRun(out), overrides=overrides, ranks=ranks or ALONE
        )
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
