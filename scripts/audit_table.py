#!/usr/bin/env python
"""What Dirac canaries show of a correct trainer and of one with half the noise: the table of docs/privacy.md.

    python scripts/audit_table.py              # medians of five seeds; about two minutes
    python scripts/audit_table.py --seeds 1

m=5000 canaries, each in by a fair coin, q=0.1, T=100, δ=1e-5, bounds at 95 %. What canaries show is drawn by its law
(`dp_train.audit.scores.simulate`), with no model: other people move none of the canaries' coordinates.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np

from dp_train.audit import Claim, f_dp, mechanism_scores, planned_guesses, seen_noise, simulate, steinke
from dp_train.privacy.plan import PrivacyPlan

CLAIMS = (1.0, 2.0, 4.0, 8.0)
ROWS = ("correct trainer: Steinke", "correct trainer: f-DP family", "noise × 0.5: Steinke", "noise × 0.5: f-DP family")


def bounds(epsilon: float, noise_scale: float, *, seed: int, canaries: int = 5000) -> tuple[float, float]:
    """Bounds by Steinke et al. and by the claimed family, on one simulated run."""
    plan = PrivacyPlan(sample_rate=0.1, expected_units=200, steps=100, delta=1e-5).calibrate(epsilon=epsilon)
    included = np.random.default_rng([seed, 7]).random(canaries) < 0.5
    observed = simulate(plan, included, seed=seed + 1000, noise_scale=noise_scale)
    scores = mechanism_scores(observed, plan, noise_multiplier=seen_noise(observed, plan))
    guesses = planned_guesses(plan, canaries)
    counts = guesses.planned, guesses.violated
    return (
        steinke(scores, included, delta=plan.delta, guesses=counts, centre=0.0).epsilon,
        f_dp(scores, included, claim=Claim.of(plan), guesses=counts, centre=0.0).epsilon,
    )


def main() -> None:
    """Simulate, bound, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    columns = []
    for epsilon in CLAIMS:
        pairs = {scale: [bounds(epsilon, scale, seed=seed) for seed in range(options.seeds)] for scale in (1.0, 0.5)}
        columns.append(
            [statistics.median(found[which] for found in pairs[scale]) for scale in pairs for which in (0, 1)]
        )
    print("| claimed ε |", " | ".join(f"{epsilon:g}" for epsilon in CLAIMS), "|")
    print("|---" * (len(CLAIMS) + 1) + "|")
    for row, name in enumerate(ROWS):
        print(f"| {name} |", " | ".join(f"{column[row]:.2f}" for column in columns), "|")


if __name__ == "__main__":
    main()
