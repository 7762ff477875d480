"""What becomes of consented words on their way to a step, and which key governs each loss; for your eyes alone.

Counts are of who wrote what, which the ε may protect: they go to the screen of whoever asks, and into no log, card or
store.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dp_train.consent.decisions import Reason
from dp_train.consent.gate import GateReport
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.units import SelectionReport
from dp_train.runs.recipe import Recipe

_BY_OTHERS = {
    Reason.OTHER_PERSON_DENIES: "another person's no: quoted, named or answered, or in the same meeting",
    Reason.TOO_MUCH_REMOVED: "consent.max_removed_share",
}
"""Why turns go whose authors agreed, with the key that decides; whatever else there is, is their own answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How much is left, and of what; how much of what came before was lost here, and what decides about it."""

    left: float
    of: str
    lost: float
    because: str


def funnel(recipe: Recipe, plan: PrivacyPlan, report: GateReport, selection: SelectionReport) -> tuple[Stage, ...]:
    """From turns to examples that a run draws at least once: consented, passed, made examples of, kept, drawn.

    Guarantee: what is left at a stage and what is lost there is what was left before; but a meeting's turns, and those
    of a task from outside, become examples by no such count.

    Args:
      report: the gate's, of what is learnt from. selection: what the bound kept of it.
    """
    denied = report.turns_removed - sum(report.removed.get(reason, 0) for reason in _BY_OTHERS)
    left = report.turns_seen
    stages = [Stage(left=left, of="turns", lost=0, because="corpus")]
    left -= denied
    stages.append(Stage(left=left, of="turns consented to", lost=denied, because="consent: their author's answer"))
    for reason, key in _BY_OTHERS.items():
        lost = report.removed.get(reason, 0)
        left -= lost
        stages.append(Stage(left=left, of="turns passed", lost=lost, because=key))
    made = selection.examples_seen
    by_turn = recipe.task.name == "chat_compose"
    stages.append(Stage(left=made, of="examples", lost=left - made if by_turn else 0, because=_examples(recipe)))
    kept = selection.examples_kept
    stages.append(Stage(left=kept, of="examples kept", lost=made - kept, because=_bound(recipe)))
    drawn = kept * drawn_once(plan)
    because = f"trainer.steps × {'trainer.population' if recipe.trainer.sample_rate is None else 'trainer.sample_rate'}"
    stages.append(Stage(left=drawn, of="examples drawn at least once, expected", lost=kept - drawn, because=because))
    return tuple(stages)


def drawn_once(plan: PrivacyPlan) -> float:
    """Probability with which a unit enters at least one step: some groups have one turn more than others."""
    law = plan.mechanism.draw_law
    turns, more = divmod(plan.steps, law.groups)
    never: float = math.pow(1.0 - law.rate, turns) * (1.0 - more / law.groups * law.rate)
    return 1.0 - never


def lines(stages: Sequence[Stage]) -> list[tuple[str, str, str, str]]:
    """(of, left, lost, because) of each stage, for a table; not those that lost nothing beside one of their kind."""
    rows = []
    for stage, following in zip(stages, [*stages[1:], None], strict=True):
        if stage.lost or following is None or following.of != stage.of:
            lost = f"−{stage.lost:,.0f}" if stage.lost else ""
            rows.append((stage.of, f"{stage.left:,.0f}", lost, stage.because))
    return rows


def _examples(recipe: Recipe) -> str:
    if recipe.task.name == "chat_compose":
        own = ", unless it is empty or quotes another" if recipe.task.own_words else ""
        return f"task.context={recipe.task.context.value}: a chat message of a thread is one{own}"
    if recipe.task.name == "meeting_summary":
        return "a meeting with a summary is one"
    return f"task={recipe.task.name}"


def _bound(recipe: Recipe) -> str:
    if recipe.privacy.unit is Unit.EXAMPLE:
        return "privacy.unit=example bounds nobody"
    if recipe.task.own_words:
        return f"privacy.rows_per_unit={recipe.privacy.rows_per_unit}"
    return f"privacy.max_contributions={recipe.privacy.max_contributions}"


__all__ = ["Stage", "drawn_once", "funnel", "lines"]
