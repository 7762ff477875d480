"""`dp-train demo`: both quickstart trade-offs in one process, one picture and one address."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from dp_train.cli.load_config import compose, without_hydra
from dp_train.cli.show import console
from dp_train.cli.tradeoff import DEMO, Study, run_studies

EXPERIMENTS = ("summary/quickstart", "compose/quickstart")


def run(options: Namespace) -> int:
    """What `make demo` calls."""
    started = time.monotonic()
    studies = []
    folder = Path()
    for experiment in EXPERIMENTS:
        # One experiment in MLflow, so that one address shows both.
        overrides = [f"experiments={experiment}", "tracking.experiment=demo", *options.overrides]
        config, tree = compose(overrides)
        studies.append(Study(config=config, tree=without_hydra(tree), overrides=overrides))
        folder = Path(tree.hydra.run.dir)
    out = console()
    code = run_studies(studies, folder, out, DEMO)
    out.print(f"done in {time.monotonic() - started:.0f} s")
    return code
