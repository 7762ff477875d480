"""`dp-train demo`: both quickstart trade-offs in one process, one picture and one address."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dp_train.cli.load_config import compose
from dp_train.cli.show import console
from dp_train.cli.study import DEMO
from dp_train.cli.tradeoff import run_tasks

EXPERIMENTS = ("summary/quickstart", "compose/quickstart")


def run(options: Namespace) -> int:
    """What `make demo` calls."""
    recipes, words = [], []
    folder = Path()
    for experiment in EXPERIMENTS:
        # One experiment in MLflow, so that one address shows both.
        words.append([f"experiments={experiment}", "tracking.experiment=demo", *options.overrides])
        config, tree = compose(words[-1])
        recipes.append(config)
        folder = Path(tree.hydra.run.dir)
    return run_tasks(recipes, folder, console(), DEMO, words)
