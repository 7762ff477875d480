"""The price of choosing: a random number of runs of which only the best is released (docs/privacy.md).

Guarantee: let one run (its model and the score that ranks it) be private, let the number of runs be drawn from the
declared law, and let nothing leave but the best run: no other model, score or log, and not how many there were. Then
all of it costs what `Selection.event` costs, which grows with the logarithm of the mean for the first two laws.

Each run may draw its settings at random from a list that was fixed before, as long as all of them have one privacy
event: the draw is a part of the run. The score is to be computed on people outside training, or part of the event.

Reference: Papernot & Steinke 2022, "Hyperparameter tuning with Rényi differential privacy" (arXiv 2110.03620),
Theorems 2 (truncated negative binomial) and 6 (Poisson).
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from dp_train.errors import PlanError
from dp_train.privacy.composition import Price, compose
from dp_train.privacy.plan import PrivacyPlan


class SelectionRule(Enum):
    """Law of the number of runs. LOGARITHMIC is the cheapest and most often one run; POISSON is the steadiest."""

    NONE = "none"
    LOGARITHMIC = "logarithmic"
    GEOMETRIC = "geometric"
    POISSON = "poisson"


_SHAPES = {SelectionRule.LOGARITHMIC: 0.0, SelectionRule.GEOMETRIC: 1.0, SelectionRule.POISSON: math.inf}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A declared choice: by which law, and of how many runs on average (> 1)."""

    rule: SelectionRule
    mean_trials: float

    def __post_init__(self) -> None:
        if self.rule is SelectionRule.NONE:
            raise PlanError("selection: rule=none is no choice; every run is charged and composes")
        if not 1 < self.mean_trials < 1e6:
            raise PlanError(f"selection: mean_trials={self.mean_trials!r}; expected a number > 1")

    def event(self, plan: PrivacyPlan) -> Any:
        """What the choice among runs of `plan` costs, for a Rényi accountant.

        Raises:
          PlanError: the plan's own event is a mixture (k > 1), of which no accountant prices a choice.
        """
        from dp_accounting import dp_event
        from dp_accounting.rdp import RdpAccountant

        base = plan.event()
        if not RdpAccountant().supports(base):
            raise PlanError(
                f"selection: max_contributions={plan.max_contributions} has an event of which no accountant "
                "prices a choice; set privacy.max_contributions=1, or let the runs compose (selection.rule=NONE)"
            )
        return dp_event.RepeatAndSelectDpEvent(base, self.mean_trials, _SHAPES[self.rule])

    def price(self, plan: PrivacyPlan) -> Price:
        """ε of the whole procedure at the plan's δ, by Rényi."""
        return compose([self.event(plan)], plan.neighboring_relation, plan.delta)

    def draw(self) -> int:
        """How many runs there shall be, from the system's randomness. As secret as a seed; 0 only for POISSON."""
        return self._draw(np.random.Generator(np.random.PCG64(secrets.randbits(128))))

    def _draw(self, rng: np.random.Generator) -> int:
        if self.rule is SelectionRule.POISSON:
            return int(rng.poisson(self.mean_trials))
        if self.rule is SelectionRule.GEOMETRIC:
            return int(rng.geometric(1 / self.mean_trials))
        return int(rng.logseries(_log_series(self.mean_trials)))


def _log_series(mean: float) -> float:
    """p of the logarithmic law with this mean: −p ÷ ((1−p) log(1−p)) = mean, by bisection on 1−p."""
    low, high = 1e-300, 1.0
    for _ in range(2000):
        rest = math.sqrt(low * high) if low < high / 4 else (low + high) / 2
        found = math.inf if rest == 0 else -(1 - rest) / (rest * math.log(rest)) if rest < 1 else 1.0
        low, high = (rest, high) if found > mean else (low, rest)
        if high - low < 1e-15 * high:
            break
    return 1 - high


__all__ = ["Selection", "SelectionRule"]
