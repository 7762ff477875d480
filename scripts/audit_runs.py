#!/usr/bin/env python
"""Attack the quickstarts: a lower bound beside the claimed ε, white box and black box, and what it costs.

    python scripts/audit_runs.py compose/quickstart                       # one run, one shadow run of each kind
    python scripts/audit_runs.py summary/quickstart --epsilon 1 --canaries 2000
    python scripts/audit_runs.py compose/quickstart --seeds 3 --skip run,black

1. the experiment's own people, starting point, plan, engine and optimizer; nothing is tracked or in a ledger;
2. its training as it is, for the time that it takes;
3. a shadow run with Dirac canaries among the same people (`dp_train.audit.white_box`);
4. a shadow run with canary people, half of each kind (`dp_train.audit.black_box`).

CPU seconds; bounds at 95 %.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings

from dp_train.audit import CanaryPeople, OneRun, black_box, verdict, white_box
from dp_train.cli.load_config import compose
from dp_train.runs.plan import make_plan
from dp_train.runs.prepare import make_scaling, make_trainer, material, prepare_machine
from dp_train.runs.starting import make_model


def main() -> None:
    """Train, attack, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("experiment")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--canaries", type=int, default=40_000)
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--skip", default="")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    own = [f"experiments={options.experiment}", "tracking=off", "ledger=false", f"privacy.epsilon={options.epsilon}"]
    recipe = compose([*own, "corpus.tables=null", *options.overrides])[0]
    prepare_machine(recipe)
    plan, data = make_plan(recipe), material(recipe)
    model, _ = make_model(recipe, data)
    trainer = make_trainer(recipe, model, data.task, plan, scaling=make_scaling(recipe, model, data))
    claimed = plan.epsilon()
    print(f"{options.experiment}: ε={claimed:.3g} claimed, noise multiplier {plan.noise_multiplier:.3g}", flush=True)
    skipped = options.skip.split(",")
    if "run" not in skipped:
        begun = time.process_time()
        _fresh(trainer).fit(data.units)
        print(f"the run itself: {time.process_time() - begun:.1f} CPU s", flush=True)
    for seed in range(options.seeds):
        if "white" not in skipped:
            begun = time.process_time()
            found = white_box(trainer, data.units, canaries=options.canaries)
            _print(f"white box {seed}", found, claimed, time.process_time() - begun)
        if "black" not in skipped:
            words = sorted({word for unit in data.public_units for one in unit for word in one.target.split()})
            rows = plan.rows_per_unit
            canaries = CanaryPeople.random_words(options.people, words, rows=rows, seed=seed)
            begun = time.process_time()
            found = black_box(trainer, data.units, canaries)
            _print(f"black box {seed}, random words", found, claimed, time.process_time() - begun)


def _fresh(trainer: object) -> object:
    fresh = copy.copy(trainer)
    fresh.setup = copy.deepcopy(trainer.setup)
    return fresh


def _print(name: str, found: OneRun, claimed: float, seconds: float) -> None:
    bounds = ", ".join(f"{one.method} {one.epsilon:.2f} ({one.correct} of {one.guesses} right)" for one in found.bounds)
    print(
        f"{name}: ε ≥ {found.bound.epsilon:.2f} at {found.bound.confidence:.0%}, {verdict(found.bound, claimed)} the "
        f"claim [{bounds}]; {seconds:.1f} CPU s; withheld: {list(found.result.epsilon.withheld)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
