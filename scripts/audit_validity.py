#!/usr/bin/env python
"""How often a white-box bound passes the ε of a correct trainer: at 95 %, in at most one run of twenty by chance.

    python scripts/audit_validity.py                # 50 fresh seeds each at ε=1 and ε=8, and how many are above

Each is a whole shadow run of a tiny model of letters with 2,000 Dirac canaries, through the book-keeping engine, with
independent noise and with noise correlated over four steps by turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import torch
from scipy.stats import binom

from dp_train.audit import verdict, white_box
from dp_train.audit.letters import LetterModel, LetterTask
from dp_train.privacy.plan import PrivacyPlan
from dp_train.training.optimizers import adamw
from dp_train.training.trainer import Trainer


def main() -> None:
    """Attack, count, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--canaries", type=int, default=2000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    begun = time.process_time()
    print("| claimed ε | bands | runs | refuted | least | median | largest bound |", flush=True)
    print("|---|---|---|---|---|---|---|", flush=True)
    total = refuted = 0
    for epsilon in (1.0, 8.0):
        found = []
        for seed in range(options.seeds):
            bands = 1 + 3 * (seed % 2)
            plan = PrivacyPlan(sample_rate=0.1, expected_units=10, steps=40, delta=1e-5, clip_norm=0.5, bands=bands)
            plan = plan.calibrate(epsilon=epsilon)
            trainer = Trainer(LetterModel(), LetterTask(), plan, optimizer=adamw(lr=0.01))
            found.append((bands, white_box(trainer, canaries=options.canaries).bound))
        for bands in (1, 4):
            bounds = [bound for own, bound in found if own == bands]
            above = sum(verdict(bound, epsilon) == "refutes" for bound in bounds)
            values = [bound.epsilon for bound in bounds]
            print(
                f"| {epsilon:g} | {bands} | {len(bounds)} | {above} | {min(values):.2f} | "
                f"{statistics.median(values):.2f} | {max(values):.2f} |",
                flush=True,
            )
            total, refuted = total + len(bounds), refuted + above
    chance = binom.sf(refuted - 1, total, 0.05) if refuted else 1.0
    print(f"\n{refuted} of {total} above their claim; that many or more have probability {chance:.2g} at 5 % each; ")
    print(f"{time.process_time() - begun:.0f} CPU seconds")
    raise SystemExit(chance < 1e-3)


if __name__ == "__main__":
    main()
