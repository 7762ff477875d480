"""`dp-train train -m`: one trial per combination, all of them composed, checked and priced before the first trains.

Hydra's own parser and sweeper expand the combinations and its config loader composes each trial; a launcher of Hydra's
(`launcher=joblib`) starts them where one is chosen, else they run here, side by side.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dp_train.cli import study as studies
from dp_train.cli.load_config import overrides_for, stored_by
from dp_train.cli.load_sweep import Sweep, composer, expand
from dp_train.cli.plan import plan_table
from dp_train.cli.show import ShowRun, config_tree
from dp_train.errors import DpTrainError
from dp_train.runs.folder import RunFolder
from dp_train.runs.plan import make_plan
from dp_train.runs.recipe import recipe_values
from dp_train.tracking.provenance import public_overrides

if TYPE_CHECKING:
    from dp_train.runs.study import Study, Trial
    from dp_train.runs.trials import Launch


def run(options: Namespace, out: Console) -> int:
    """Run every trial of a sweep.

    Raises:
      ConfigError: one of the trials cannot be composed; none was begun.
      DpTrainError: some trials failed; the others are whole.
    """
    stored = stored_by(options)
    with composer(stored, options.overrides):
        sweep = expand(overrides_for(options.overrides, stored), options.overrides)
        first = sweep.recipes[0]
        if first.dry_run:
            out.print(config_tree(recipe_values(first)))
            out.print(plan_table(make_plan(first)))
            out.print("the plan of the first trial; dry_run trains nothing")
            return 0
        return _begin(sweep, options, out)


def _begin(sweep: Sweep, options: Namespace, out: Console) -> int:
    from dp_train.runs.study import Kind, Study, Trial
    from dp_train.runs.trials import SharedData, check, trial_of

    trials = []
    for number, (recipe, words) in enumerate(zip(sweep.recipes, sweep.combinations, strict=True)):
        shown = [word for word in public_overrides(words) if word.partition("=")[0].lstrip("+") in sweep.keys]
        name = " ".join([f"trial {number}", *shown])
        try:
            plan = make_plan(recipe)
        except DpTrainError as error:
            raise type(error)(f"{name}: {error} (nothing was trained)") from error
        trials.append(Trial(name=name, folder=sweep.subfolders[number], recipe=recipe, plan=plan, overrides=(*words,)))
    shared = SharedData()
    check(trials, shared)
    command = studies.command_of("train -m", options.overrides, options.from_run)
    folder = RunFolder(sweep.folder)
    study = Study.begin(folder, Kind.SWEEP, command, trials, overrides=options.overrides)
    out.print(f"sweep folder: {folder.path}")
    launch = None
    if sweep.launches_elsewhere:

        def launch(todo: Sequence[Trial]) -> None:
            sweep.launch(study, trial_of)

    return go(study, out, launch=launch, shared=shared)


def go(study: Study, out: Console, *, launch: Launch | None = None, shared: Any = None) -> int:
    """Run what is left of a sweep, here or by `launch`, and report all of it."""
    from dp_train.runs.starting import make_model
    from dp_train.runs.tracker import open_store
    from dp_train.runs.trials import SharedData, check
    from dp_train.runs.workers import workers_that_fit

    left = [trial for trial in study.trials if study.finished(trial) is None]
    if shared is None:  # else they were checked just now
        shared = SharedData()
        check(left, shared)
    store = open_store(study.trials[0].recipe)

    def start(parent: object) -> None:
        """Make the public starting point once, before several processes would each make it."""
        recipes = [trial.recipe for trial in left]
        if launch is not None or workers_that_fit(recipes, recipes[0].study.workers if recipes else 1) > 1:
            for recipe in recipes[:1]:
                make_model(recipe, shared.prepared(recipe).data, callbacks=ShowRun(out).progress("starting point"))

    title = f"sweep {study.trials[0].recipe.task.name}"
    studies.train_all(study, shared, out, store=store, launch=launch, before=start, title=title)
    studies.states(study, out)
    for line in studies.claims(study):
        out.print(line)
    studies.raise_if_failed(study)
    return 0
