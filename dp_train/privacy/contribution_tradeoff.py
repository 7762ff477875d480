"""What each bound k on a person's examples keeps and costs, so that a user can choose (docs/privacy.md, One plan)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dp_train.consent.gate import ConsentedExamples
from dp_train.privacy.contribution_bounding import bounded_contributions, rows_by_owner
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.units import SelectionReport, selection_report


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One bound, what it keeps of the examples, and what noise it takes.

    Attributes:
      max_contributions: k.
      selection: what is kept; the counts are for the screen of whoever runs the training.
      plan: the plan at this k: σ calibrated to the ε asked, or the given σ.
      epsilon: what it spends.
      signal: kept examples ÷ σ, relative to the first choice. At a given sample rate a step's sum has q · kept
        examples in it, so this is how far the signal stands above the noise.
    """

    max_contributions: int
    selection: SelectionReport
    plan: PrivacyPlan
    epsilon: float
    signal: float


def choices(
    examples: ConsentedExamples, plan: PrivacyPlan, bounds: Sequence[int], *, epsilon: float | None
) -> tuple[Choice, ...]:
    """One choice a bound; a single one, k=1, where every example has one owner or the unit is the example.

    Spends nothing: it reads who owns what, which the guarantee takes as fixed, and nothing that was said.

    Args:
      plan: for everything but k, and for σ where `epsilon` is None; see `PrivacyPlan.with_contributions`.
      epsilon: what each plan is calibrated to.
    """
    seen = list(examples.places())  # once: a pass reads the corpus anew
    shared = plan.unit is Unit.USER and any(len(example.owners) > 1 for example in seen)
    if not shared:
        bounds = (1,)
    found: list[Choice] = []
    first = 0.0
    for k in bounds:
        if shared:
            bounded = bounded_contributions(seen, k)
            selection = selection_report(seen, bounded.examples, most_possible=bounded.upper_bound)
        elif plan.unit is Unit.USER:
            rows = rows_by_owner(seen, plan.rows_per_unit)
            selection = selection_report(seen, [example for unit in rows for example in unit])
        else:
            selection = selection_report(seen, seen)
        at = plan.with_contributions(k)
        if plan.private and epsilon is not None:
            at = at.calibrate(epsilon=epsilon)
        kept = selection.examples_kept / (at.calibrated_noise_multiplier if at.private else 1.0)
        first = first or kept
        found.append(
            Choice(
                max_contributions=k,
                selection=selection,
                plan=at,
                epsilon=at.epsilon() if at.private else float("inf"),
                signal=kept / first if first else 0.0,
            )
        )
    return tuple(found)
