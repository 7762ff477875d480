"""A second opinion on ε: Opacus' accountants against the PLD of `dp_train.privacy.accounting`.

Opacus' `gdp` accountant is no opinion: it reports 0.28 where 0.76 is true.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis.prv import PoissonSubsampledGaussianPRV

from dp_train.errors import PlanError
from dp_train.privacy import accounting
from dp_train.privacy.events import sampled_gaussian
from dp_train.privacy.plan import PrivacyPlan

_PRV_ENDS = 100.0

TOLERANCE = 0.02
"""How far PRV may lie from PLD: its own numerical error is at most 0.01, and PLD rounds up a little."""

PRV = "prv (Opacus)"

_FINEST = 0.01
_MOST_POINTS = 1 << 21
"""Of PRV's grid: about three seconds and 0.3 GB. A plan that needs more gets a coarser grid, or no opinion of PRV."""

_ORDERS = [1 + x / 10 for x in range(1, 100)] + [*range(12, 64), 80, 128, 256, 512]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossCheck:
    """ε of the same steps by three accountants.

    Attributes:
      pld: privacy loss distributions by dp_accounting: the ε that is published.
      prv: privacy random variables by Opacus (Gopi et al. 2021, arXiv 2106.02848).
      rdp: Rényi divergences by Opacus (Mironov 2017, arXiv 1702.07476): looser, so never smaller.
    """

    pld: float
    prv: float
    rdp: float

    @property
    def agrees(self) -> bool:
        """|PRV − PLD| ≤ 0.02 and RDP ≥ PLD."""
        return disagreement({"pld": self.pld, PRV: self.prv, "rdp": self.rdp}) is None

    def describe(self) -> str:
        """One line for a report."""
        verdict = "agree" if self.agrees else "disagree"
        return f"accountants {verdict}: PLD {self.pld:.3f}, PRV {self.prv:.3f}, RDP {self.rdp:.3f}"


@lru_cache(maxsize=64)
def opinions(plan: PrivacyPlan) -> Mapping[str, float]:
    """ε of the plan by every accountant that knows plans of its kind: "pld" is published, the others check it."""
    if not plan.private:
        return {}
    event = plan.event()
    found = dict(accounting.cross_check([event], plan.neighboring_relation, plan.delta))
    # Opacus' PRV knows no mixtures, no caps, no rate of 1, and overflows where an ε means nothing any more.
    steps = sampled_gaussian(event)
    if steps is not None and steps[1] < 1 and 0 < found["pld"] < _PRV_ENDS:
        # A grid that PRV cannot make: it has no opinion.
        with suppress(ArithmeticError, ValueError, RuntimeError, MemoryError), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Optimal order is")
            error = _affordable_error(steps, plan.delta)
            if error <= _slack(found["pld"]) / 2:
                found[PRV] = float(_prv(steps).get_epsilon(plan.delta, eps_error=error))
    return found


def without_prv(plan: PrivacyPlan) -> str | None:
    """Return why PRV gives no second opinion on a private plan; None where it gives one."""
    if not plan.private or PRV in opinions(plan):
        return None
    steps = sampled_gaussian(plan.event())
    if steps is None or steps[1] >= 1:
        return "it knows no such plans"
    if not 0 < plan.epsilon() < _PRV_ENDS:
        return f"ε is beyond {_PRV_ENDS:g}"
    return f"a grid as fine as its opinion needs has more than {_MOST_POINTS:,} points"


def _affordable_error(steps: tuple[float, float, int], delta: float) -> float:
    """The error at which PRV's grid has at most `_MOST_POINTS` points; never finer than `_FINEST`."""
    noise_multiplier, sample_rate, count = steps
    domain = _prv(steps)._get_domain(
        prvs=[PoissonSubsampledGaussianPRV(sample_rate, noise_multiplier)],
        num_self_compositions=[count],
        eps_error=_FINEST,
        delta_error=delta / 1000,
    )
    return _FINEST * max(1.0, float(domain.size) / _MOST_POINTS)


def _prv(steps: tuple[float, float, int]) -> PRVAccountant:
    accountant = PRVAccountant()
    accountant.history = [steps]
    return accountant


def disagreement(found: Mapping[str, float]) -> str | None:
    """Why an ε is not to be published: PRV further than 0.02 from PLD, or RDP below it. None if they agree.

    Where ε is so large that PLD rounds up by more than that, a thousandth of it counts as nothing.
    """
    pld = found.get("pld", 0.0)
    if pld > _PRV_ENDS:
        return None
    slack = _slack(pld)
    if PRV in found and not abs(found[PRV] - pld) <= slack:
        return "accountants disagree: PRV is not within 0.02 of PLD"
    if "rdp" in found and not found["rdp"] >= pld - (slack - TOLERANCE) - 1e-9:
        return "accountants disagree: RDP, an upper bound, lies below PLD"
    return None


def _slack(pld: float) -> float:
    """How far another accountant may lie from an ε by PLD."""
    return max(TOLERANCE, 1e-3 * pld)


def cross_check(plan: PrivacyPlan, *, history: Sequence[tuple[float, float, int]] | None = None) -> CrossCheck:
    """ε of a plan by PLD, and of what ran by Opacus' accountants.

    Args:
      plan: gives the PLD value, for as many steps as `history` has.
      history: (noise multiplier, sample rate, steps), as `HooksEngine.opacus_history` gives it; the whole
        plan if not given.

    Raises:
      PlanError: the plan is not private, or a person owns several units: Opacus knows no mixtures.
    """
    if not plan.private:
        raise PlanError("cross-check: the plan is not private; expected noise_multiplier > 0")
    steps = sampled_gaussian(plan.event())
    if steps is None:
        raise PlanError(
            f"cross-check: {type(plan.mechanism).__name__} steps; Opacus' accountants know Poisson-sampled Gaussians; "
            "go by the PLD alone"
        )
    ran = list(history) if history is not None else [steps]
    prv, rdp = PRVAccountant(), RDPAccountant()
    prv.history, rdp.history = list(ran), list(ran)
    with warnings.catch_warnings():
        # PRV sizes its grid by a Rényi bound; an order at the end of its range makes the grid larger, no more.
        warnings.filterwarnings("ignore", message="Optimal order is")
        return CrossCheck(
            pld=plan.epsilon(sum(count for *_, count in history) if history is not None else None),
            prv=float(prv.get_epsilon(plan.delta)),
            rdp=float(rdp.get_epsilon(plan.delta, alphas=_ORDERS)),
        )
