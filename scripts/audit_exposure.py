#!/usr/bin/env python
"""Is a phrase of one person remembered? Exposure among 512 candidates, without privacy and at ε=8.

    python scripts/audit_exposure.py                     # three seeds, compose/quickstart, a picture beside the table
    python scripts/audit_exposure.py --steps 160 --picture experiments/exposure.png

One more person writes one phrase in all the rows that the plan lets a person have; its three last words are drawn
from 8 × 8 × 8. Candidates are ranked by how far their loss fell from the public starting point (Carlini et al. 2019):
9 bits is the first place of 512, and chance gives 1.44 on average.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from pathlib import Path

import numpy as np

from dp_train.audit import Exposure, chance_of_ranks, exposure_run
from dp_train.cli.load_config import compose
from dp_train.runs.plan import make_plan
from dp_train.runs.prepare import make_scaling, make_trainer, material, prepare_machine
from dp_train.runs.starting import make_model

WORDS = (
    ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "haven"],
    ["iris", "jade", "kite", "lemon", "maple", "north", "ocean", "pearl"],
    ["quartz", "river", "stone", "tiger", "umber", "velvet", "willow", "zebra"],
)
CANDIDATES = [f"my locker code is {' '.join(words)}" for words in itertools.product(*WORDS)]


def exposures(arguments: list[str], seeds: int) -> list[Exposure]:
    """Exposure of a secret of its own for each seed, in shadow runs of one recipe."""
    recipe = compose([*arguments, "tracking=off", "ledger=false", "corpus.tables=null"])[0]
    prepare_machine(recipe)
    plan, data = make_plan(recipe), material(recipe)
    model, _ = make_model(recipe, data)
    trainer = make_trainer(recipe, model, data.task, plan, scaling=make_scaling(recipe, model, data))
    secrets = np.random.default_rng(18).integers(len(CANDIDATES), size=seeds).tolist()
    return [exposure_run(trainer, data.units, CANDIDATES, secret=secret) for secret in secrets]


def main() -> None:
    """Train, rank, print, draw."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--experiment", default="compose/quickstart")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--picture", type=Path, default=None)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    own = [f"experiments={options.experiment}", *options.overrides]
    own += [] if options.steps is None else [f"trainer.steps={options.steps}"]
    found = {}
    for name, privacy in (("without privacy", "privacy=none"), ("ε=8", "privacy.epsilon=8")):
        found[name] = exposures([*own, privacy], options.seeds)
        bits = ", ".join(f"{one.bits:.1f}" for one in found[name])
        ranks = ", ".join(f"{one.rank:g}" for one in found[name])
        print(f"| {name} | {bits} | {ranks} | {chance_of_ranks(found[name]):.2g} |", flush=True)
    if options.picture is not None:
        draw(found, options.picture)


def draw(found: dict[str, list[Exposure]], path: Path) -> None:
    """Bits of each seed, beside what chance gives."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 2.4), layout="constrained")
    for place, (name, some) in enumerate(found.items()):
        axes.scatter([one.bits for one in some], [place] * len(some), s=60, alpha=0.7, label=name)
    axes.axvline(1.44, linestyle="--", color="grey")
    axes.text(1.5, 1.35, "mean of chance", color="grey")
    axes.set(yticks=range(len(found)), yticklabels=list(found), ylim=(-0.6, 1.6), xlim=(-0.2, 9.3))
    axes.set_xlabel("exposure, bits of 9")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
