"""Warnings about what a recipe declares beside what its files hold.

They hold counts that no ε covers, and are for the eyes of whoever holds the files: they go to the screen's error
stream, and never to a file, a card, a log or a tracking store.
"""

from __future__ import annotations

from collections.abc import Iterator

from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.units import SelectionReport
from dp_train.runs.proposal import coarse, delta_for, expected_units_for
from dp_train.runs.recipe import Recipe

_FAR = 2.0
"""A step may draw so many times more, or fewer, than it is divided by."""
_KEPT = 0.2
"""Share of the rows below which a bound is worth a look."""

EYES = "for your eyes alone, it stands in no file"


def warnings_beside(recipe: Recipe, plan: PrivacyPlan, found: SelectionReport) -> list[str]:
    """Return a line for each declared number that is far from what was found, with what to write instead."""
    if not found.examples_kept:
        return []  # `checks` says so, and why
    return [
        f"warning: {line} ({EYES})"
        for line in (*_size(recipe, plan, found), *_share(plan, found), *_delta(recipe, plan, found))
    ]


def _shared(plan: PrivacyPlan, found: SelectionReport) -> bool:
    return plan.unit is Unit.USER and any(share.owners > 1 for share in found.by_owners)


def _size(recipe: Recipe, plan: PrivacyPlan, found: SelectionReport) -> Iterator[str]:
    by_row = plan.unit is Unit.EXAMPLE or _shared(plan, found)
    units, word = (found.examples_kept, "rows") if by_row else (found.people_kept, "people")
    drawn = plan.sample_rate * units
    if plan.expected_units / _FAR <= drawn <= plan.expected_units * _FAR:
        return
    trainer = recipe.trainer
    declared = (
        f"trainer.sample_rate={trainer.sample_rate:g}"
        if trainer.population is None
        else f"trainer.population={trainer.population}"
    )
    signal = ""
    if plan.private:
        noise = plan.calibrated_noise_multiplier
        signal = f", {drawn / noise:.3g} times its noise and not {plan.expected_units / noise:.3g}"
    size = expected_units_for(units)
    nearer = f"trainer.expected_units={size} " + (
        f"trainer.sample_rate={size / coarse(units):.3g}"
        if trainer.population is None
        else f"trainer.population={coarse(units)}"
    )
    yield (
        f"{declared} is far from the {units:,} {word} that are learnt from: a step draws {drawn:.3g} of them on "
        f"average and is divided by trainer.expected_units={plan.expected_units}{signal}; nearer, and rounded: {nearer}"
    )


def _share(plan: PrivacyPlan, found: SelectionReport) -> Iterator[str]:
    if plan.unit is Unit.EXAMPLE or found.examples_share >= _KEPT:
        return
    if _shared(plan, found):
        key, value, price = "privacy.max_contributions", plan.max_contributions, "at more noise"
    else:
        key, value, price = "privacy.rows_per_unit", plan.rows_per_unit, "at no more noise"
    yield f"{key}={value} keeps {found.examples_share:.1%} of the rows; {key}={2 * value} keeps more, {price}"


def _delta(recipe: Recipe, plan: PrivacyPlan, found: SelectionReport) -> Iterator[str]:
    people, population = found.people_seen, recipe.trainer.population
    said = population is not None and plan.delta >= 1 / population  # by `runs.plan.warnings`, of the declared number
    if plan.private and plan.delta >= 1 / people and not said:
        yield (
            f"privacy.delta={plan.delta:g} is not below 1 ÷ {people:,}, the people who are learnt from: releasing one "
            f"of them whole would be within the guarantee; privacy.delta={delta_for(people):g} is"
        )


__all__ = ["EYES", "warnings_beside"]
