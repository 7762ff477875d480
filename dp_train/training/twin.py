"""A second task beside a private run's own: a copy that has seen none of its texts, to compare with."""

from __future__ import annotations

import secrets
from dataclasses import replace

from dp_train.privacy.steady_encoding import check_encoding, copied, sample_of
from dp_train.privacy.units import Units
from dp_train.training.method import Setup


def twin_of(setup: Setup, units: Units) -> Setup:
    """Return the setup of a private run with a copy of its task, after both encoded a sample of the units alike.

    Raises:
      PlanError: they did not, or the task cannot be copied.
    """
    if not setup.plan.private:
        return setup
    task = copied(setup.task)
    if not units.tabled:  # a table was checked when it was written
        sample = [secrets.choice(units[unit]) for unit in sample_of(len(units))]
        check_encoding(setup.task.encode, task.encode, sample, lambda example: example)
    return replace(setup, task=task)
