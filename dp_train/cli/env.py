"""`dp-train env`: versions, cores, and whether the accountant gives on this machine what it should."""

from __future__ import annotations

import os
import platform
from argparse import Namespace

from dp_train.cli.show import console, table
from dp_train.errors import PrivacyError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tracking.provenance import git_state, versions

# σ=1, q=0.01, T=1000, δ=1e-5: PLD gives 1.828 (tests/privacy/test_accounting.py).
_PLAN = PrivacyPlan(sample_rate=0.01, expected_units=1, steps=1000, delta=1e-5, noise_multiplier=1.0)
_EXPECTED, _TOLERANCE = 1.828, 0.005


def run(options: Namespace) -> int:
    """Print a table.

    Raises:
      PrivacyError: the accountant gives another ε than the documented one.
    """
    import torch

    git = git_state()
    epsilon = _PLAN.epsilon()
    rows = [
        *versions().items(),
        (
            "commit",
            f"{git.commit}{' (changed since)' if git.dirty else ''}" if git else "no repository",
        ),
        ("platform", platform.platform()),
        ("cores", str(os.cpu_count())),
        ("torch threads", str(torch.get_num_threads())),
        ("accelerator", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"),
        ("ε at σ=1, q=0.01, T=1000, δ=1e-5", f"{epsilon:.3f}"),
    ]
    console().print(table(("", ""), rows))
    if abs(epsilon - _EXPECTED) > _TOLERANCE:
        raise PrivacyError(
            f"accountant: ε={epsilon:.4f} at σ=1, q=0.01, T=1000, δ=1e-5; expected {_EXPECTED}; "
            "install the dp-accounting version of constraints.txt"
        )
    return 0
