#!/usr/bin/env python
"""How often a correct run loses its claim: runs of a tiny model with fresh seeds, and how many were withheld.

    python scripts/false_alarms.py                # 200 runs, all checks on; expected: 0 withheld
    python scripts/false_alarms.py --runs 20

Every check of `training.watch` and of the monitor looks at every run; the self-check tries each engine at its start.
By their laws a correct run is withheld with probability at most 2e-9.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "sabotage"))

import torch
from cases import CASES, units_of

from dp_train.privacy.plan import Unit
from dp_train.training.method import Method
from dp_train.training.optimizers import adamw, linear
from dp_train.training.trainer import Trainer


def main() -> None:
    """Run, count, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    withheld, begun = [], time.process_time()
    for number, case in zip(range(args.runs), itertools.cycle(CASES), strict=False):
        model, task = case.make()
        units = units_of(task.purpose, Unit.USER, case.plan.rows_per_unit)
        trainer = Trainer(
            model,
            task,
            case.plan.replace(steps=40),
            optimizer=adamw(lr=0.01),
            method=Method(
                engine=case.engine, packing=case.packing, schedule=linear(), average=0.9 if number % 2 else None
            ),
        )
        result = trainer.fit(units)
        if result.stopped_by is not None:
            raise SystemExit(128 + result.stopped_by)
        withheld += [f"{case.name}: {reason}" for reason in result.epsilon.withheld]
    seconds = time.process_time() - begun
    print(f"{args.runs} runs, 40 steps each, {seconds:.0f} CPU seconds: {len(withheld)} withheld")
    for reason in withheld:
        print(reason)
    raise SystemExit(bool(withheld))


if __name__ == "__main__":
    main()
