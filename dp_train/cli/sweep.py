"""`dp-train train -m`: one trial per combination, each a run of its own, children of one parent in MLflow.

Hydra expands the combinations and launches the trials, here or where `launcher` says. A trial that
fails is told at once and leaves the others alone; the parent is closed on every way out.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape

from dp_train.cli.config_errors import explain
from dp_train.cli.load_config import (
    HYDRA_VERSION,
    ROOT,
    check,
    compose,
    overrides_for,
    prepare_hydra,
    stored_by,
    without_hydra,
)
from dp_train.cli.plan import plan_table
from dp_train.cli.show import config_tree, table, told
from dp_train.errors import DpTrainError
from dp_train.privacy import composition
from dp_train.privacy.plan import NeighboringRelation
from dp_train.privacy.rounding import rounded_up
from dp_train.runs.config_paths import conf_folder
from dp_train.runs.folder import RunFolder
from dp_train.runs.plan import make_plan
from dp_train.runs.recipe import Recipe
from dp_train.tracking.provenance import public_overrides
from dp_train.tracking.recompute import plan_of

if TYPE_CHECKING:
    from dp_train.tracking.run import TrackedRun


def run(options: Namespace, out: Console) -> int:
    """Run every trial of the sweep.

    Raises:
      DpTrainError: some trials failed; the others are whole. Or the sweep cannot be composed.
    """
    stored = stored_by(options)
    words = overrides_for(options.overrides, stored)
    typed = grid(options.overrides)
    base, tree = compose(typed.first, stored=stored)
    # An experiment file may bring combinations of its own; what is typed replaces them.
    set_by_hand = {word.partition("=")[0].lstrip("+~") for word in options.overrides}
    params = tree.hydra.sweeper.get("params") or {}
    written = grid([f"{key}={value}" for key, value in params.items() if key not in set_by_hand])
    sweep = Grid(typed.first, typed.keys | written.keys, typed.trials * written.trials)
    if base.dry_run:
        out.print(config_tree(without_hydra(tree)))
        out.print(plan_table(make_plan(base)))
        out.print("the plan of the first trial; dry_run trains nothing")
        return 0
    folder = Path(tree.hydra.sweep.dir)
    out.print(f"sweep folder: {folder}")
    with _parent(base, options.overrides) as parent:
        try:
            _launch([*words, f"hydra.sweep.dir={folder}"], sweep, None if parent is None else parent.run_id, stored)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise explain(error, options.overrides) from error
        finally:
            _write_overrides(folder, options.overrides)
        price = procedure_price(folder)
        if parent is not None and price is not None:
            parent.log_metrics({"privacy/procedure_epsilon": price.epsilon})
    return _report(folder, out, price)


@dataclass(frozen=True, slots=True)
class Grid:
    """What a sweep is over: the overrides of its first trial, the keys that change, and how many trials there are."""

    first: list[str]
    keys: frozenset[str]
    trials: int


def grid(overrides: Sequence[str]) -> Grid:
    """Read the combinations out of overrides such as `a=1,2`.

    Raises:
      ConfigError: an override cannot be read.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise explain(error, overrides) from error
    words, keys, trials = [], set(), 1
    for override in parsed:
        word = str(override.input_line)
        if override.is_sweep_override():
            key = override.get_key_element()
            keys.add(key)
            if override.is_discrete_sweep():
                values = list(override.sweep_string_iterator())
                word = f"{key}={values[0]}"
                trials *= len(values)
        words.append(word)
    return Grid(words, frozenset(keys), trials)


def _launch(words: list[str], sweep: Grid, parent_id: str | None, stored: Mapping[str, Any] | None) -> None:
    """Give the sweep to Hydra, which reads the command line."""

    def trial(tree: DictConfig) -> None:
        _trial(tree, parent_id, sweep)

    prepare_hydra(stored, words)
    old_words, old_setting = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["dp-train", "--multirun", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints the traceback itself and exits
    try:
        hydra.main(config_path=str(conf_folder()), config_name=ROOT, version_base=HYDRA_VERSION)(trial)()
    finally:
        sys.argv = old_words
        if old_setting is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = old_setting


def _trial(tree: DictConfig, parent_id: str | None, sweep: Grid) -> None:
    """One trial, in whichever process the launcher put it.

    It tells its failure and does not raise it: Hydra would print all overrides, a seed among them.
    """
    from dp_train.cli.show import console
    from dp_train.runs.checks import check_parts, check_recipe
    from dp_train.runs.prepare import material, prepare_machine
    from dp_train.runs.run import Family, open_store, run_trial

    job = HydraConfig.get()
    number, path = job.job.num, Path(job.runtime.output_dir)
    out = console()
    words = list(job.overrides.task)
    shown = [word for word in public_overrides(words) if word.partition("=")[0].lstrip("+") in sweep.keys]
    out.print(f"[bold]trial {number}[/] {escape(' '.join(shown))}")
    try:
        config = check(tree)
        plan = make_plan(config)
        prepare_machine(config)
        check_recipe(config)
        made = material(config)
        check_parts(config, made, [plan], folder=path)
        store = open_store(config)
        folder = RunFolder.create(path, tree, words)
        run_trial(
            config,
            tree,
            made,
            plan,
            folder,
            store=store,
            out=out,
            overrides=words,
            family=Family(parent_id=parent_id, trials=sweep.trials),
        )
    except Exception as error:
        told(f"trial {number}", error)


@contextmanager
def _parent(config: Recipe, overrides: Sequence[str]) -> Iterator[TrackedRun | None]:
    """The sweep's own run in MLflow; trials in other processes find it by its id."""
    from dp_train.runs.run import experiment_name, open_store
    from dp_train.tracking.run import RunKind

    store = open_store(config)
    if store is None:
        yield None
        return
    experiment = store.experiment(experiment_name(config), metrics=[])
    with store.start_run(experiment, name=f"sweep {config.task.name}", kind=RunKind.SWEEP) as run:
        run.set_tags({"dp_train.overrides": " ".join(public_overrides(overrides))})
        yield run


def _write_overrides(folder: Path, overrides: Sequence[str]) -> None:
    """Replace what Hydra wrote about the sweep, in which a fixed seed would stand."""
    (folder / "multirun.yaml").unlink(missing_ok=True)
    if folder.is_dir():
        (folder / "overrides.yaml").write_text(yaml.safe_dump(public_overrides(overrides), allow_unicode=True))


def procedure_price(folder: Path) -> composition.Price | None:
    """What the private trials cost together, as if all had been declared before the first; None for fewer than two.

    What is chosen by looking at all of them has this behind it, and not the ε of the one that was chosen.
    """
    results = [RunFolder(path).read_json("result.json") for path in folder.iterdir() if path.name.isdigit()]
    ran = [(plan_of(result["plan"]), result["steps"]) for result in results if result.get("epsilon") is not None]
    if len(ran) < 2:
        return None
    relation = NeighboringRelation.ADD_OR_REMOVE_ONE
    if any(plan.neighboring_relation is NeighboringRelation.REPLACE_SPECIAL for plan, _ in ran):
        relation = NeighboringRelation.REPLACE_SPECIAL
    return composition.compose(
        [plan.event(plan.charged(steps)) for plan, steps in ran], relation, min(plan.delta for plan, _ in ran)
    )


def _report(folder: Path, out: Console, price: composition.Price | None) -> int:
    """The trials in a table, and what they cost together.

    Raises:
      DpTrainError: not every trial came to its end.
    """
    trials = sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    rows, failed = [], 0
    for path in trials:
        result = RunFolder(path).read_json("result.json")
        done = result.get("status") == "FINISHED"
        failed += not done
        score = result.get("scores", {}).get(result.get("metric"))
        rows.append(
            (
                path.name,
                str(result.get("label", "")),
                str(result.get("status", "FAILED")),
                rounded_up(result.get("epsilon")),
                "" if score is None else f"{result['metric']} {score:.4g}",
            )
        )
    out.print(table(("trial", "run", "status", "ε", "score"), rows, title=str(folder)))
    if price is not None:
        out.print(
            f"these trials together: ε={rounded_up(price.epsilon)}, which is what stands behind a model that is chosen "
            "among them; corpus.train_on=public chooses for nothing"
        )
    if failed:
        raise DpTrainError(
            f"sweep: {failed} of {len(trials)} trials failed, see above; the others are whole in {folder}"
        )
    return 0
