#!/usr/bin/env python
"""What decides how tight a white-box bound is: canaries, and whether the attack knows whose turn each step is.

    python scripts/audit_power.py                                  # both quickstarts at ε=8, 12 seeds each
    python scripts/audit_power.py compose/quickstart --epsilon 2

What canaries show is drawn by its law (`dp_train.audit.simulate`), with no model, under the experiment's own plan.
Bounds are by all methods together at 95 %, as `dp-train audit` shows them, and as many canaries are guessed.
"""

from __future__ import annotations

import argparse
import statistics
import warnings

import numpy as np

from dp_train.audit import mechanism_scores, simulate, tightest, white_box_bounds
from dp_train.cli.load_config import compose
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.plan import make_plan


def bound(plan: PrivacyPlan, canaries: int, *, known: bool, seed: int) -> float:
    """The bound that one simulated run shows."""
    random = np.random.default_rng([seed, 9])
    included, turns = random.random(canaries) < 0.5, random.integers(plan.bands, size=canaries)
    observed = simulate(plan, included, seed=seed + 100, turns=turns)
    scores = mechanism_scores(observed, plan, turns=turns if known else None)
    return tightest(white_box_bounds(scores, included, plan)).epsilon


def main() -> None:
    """Simulate, bound, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("experiments", nargs="*", default=["compose/quickstart", "summary/quickstart"])
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--canaries", type=int, nargs="+", default=[5000, 20_000, 40_000])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| experiment | canaries | turns | least | median | largest | median ÷ claim |")
    print("|---|---|---|---|---|---|---|")
    for experiment in options.experiments:
        own = [f"experiments={experiment}", "tracking=off", "ledger=false", f"privacy.epsilon={options.epsilon}"]
        plan = make_plan(compose(own)[0])
        for canaries in options.canaries:
            for known in (False, True):
                found = [bound(plan, canaries, known=known, seed=seed) for seed in range(options.seeds)]
                median = statistics.median(found)
                print(
                    f"| {experiment} | {canaries:,} | {'known' if known else 'not known'} | {min(found):.2f} | "
                    f"{median:.2f} | {max(found):.2f} | {median / plan.epsilon():.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
