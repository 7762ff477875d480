"""What sampling and epochs cost at the same ε: the noise that is left in sums over steps, by the bands of the noise.

    python scripts/bench_epochs.py --steps 40 --epoch-steps 40

A model's weights are sums over steps of what was released, so the rms of the noise in all prefix sums, in units of the
clip norm, is what a plan costs; less is better. No run is made and nothing private is read.
"""

from __future__ import annotations

import argparse

import numpy as np

from dp_train.privacy.correlation import strategy, strategy_coefficients
from dp_train.privacy.plan import PrivacyPlan


def noise_in_sums(plan: PrivacyPlan) -> float:
    """Return the rms noise of the sums of the first 1, 2, … T releases ÷ clip norm."""
    steps = plan.steps
    released = np.linalg.inv(strategy(strategy_coefficients(plan.bands), steps))
    sums = np.tril(np.ones((steps, steps))) @ released
    return float(plan.calibrated_noise_multiplier * np.sqrt((sums**2).sum() / steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--epoch-steps", type=int, default=40)
    parser.add_argument("--bands", type=int, nargs="*", default=[1, 4, 8, 16, 40])
    parser.add_argument("--epsilons", type=float, nargs="*", default=[1.0, 4.0, 8.0])
    options = parser.parse_args()
    epoch = options.epoch_steps
    print(f"{options.steps} steps, {epoch} an epoch, δ=1e-5: sampled, once an epoch")
    print("| ε | " + " | ".join(f"b={bands}" for bands in options.bands) + " |")
    print("|---" * (1 + len(options.bands)) + "|")
    for epsilon in options.epsilons:
        cells = []
        for bands in options.bands:
            sampled = PrivacyPlan(sample_rate=1 / epoch, expected_units=1, steps=options.steps, delta=1e-5, bands=bands)
            plans = [sampled] * (bands <= epoch) + [sampled.replace(epoch_steps=epoch)]
            cells.append(", ".join(f"{noise_in_sums(plan.calibrate(epsilon=epsilon)):.2f}" for plan in plans))
        print(f"| {epsilon:g} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
