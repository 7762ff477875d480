"""The refusal of runs that would pass a budget, in one line: what they need, what is left, and what would fit."""

from __future__ import annotations

from collections.abc import Sequence

from dp_train.errors import BudgetError
from dp_train.privacy.composition import compose, event_from_json
from dp_train.privacy.ledger.budget import Standing, admits, standing, what_fits
from dp_train.privacy.ledger.lines import Book, Line
from dp_train.privacy.ledger.requests import Request, line_of
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.relations import strictest


def check_fits(book: Book, population: str, requests: Sequence[Request], lines: Sequence[Line]) -> None:
    """Raise BudgetError if runs would pass the budget of a population: what is needed, what is left, what would fit."""
    budget = book.budget(population)
    if budget is None or not any(line.bounded for line in lines):
        return
    before = book.of(population)
    if admits(budget, [*before, *lines]):
        return
    stands = standing(book, population)
    needs = compose(
        [event_from_json(line.event) for line in lines if line.bounded],
        strictest(line.relation for line in lines),
        budget.delta,
    )
    left = f"ε={_floor(budget.epsilon - stands.spent)} of {budget.epsilon:g} (δ={budget.delta:g}) is left"
    head = f"ledger: {population_name(book, population)}: "
    what = "the run needs" if len(requests) == 1 else f"the {len(requests)} runs together need"
    rest = "; ask for a larger budget (dp-train ledger declare … --reason)"
    fits = "; declare fewer runs, or more noise"
    if len(requests) == 1 and requests[0].event is None:
        plan = requests[0].plan

        def admitted(changed: PrivacyPlan) -> bool:
            line = line_of(Request(plan=changed), population, lines[0].procedure, priced=False)
            return admits(budget, [*before, line])

        found = what_fits(plan, admitted)
        options = [f"trainer.steps={found.steps}"] if found.steps else []
        if found.noise_multiplier is not None and found.epsilon is not None:
            options += [f"noise_multiplier={found.noise_multiplier:g} (ε={_floor(found.epsilon)})"]
        fits = f"; what fits: {' or '.join(options)}" if options else "; nothing like it fits any more"
    raise BudgetError(f"{head}{what} ε={needs.epsilon:.3g} and {left}, by {_way(before, stands)}{fits}{rest}")


def population_name(book: Book, population: str) -> str:
    """Return the start of a population's id and its public label, for messages."""
    label = book.label(population)
    return f"population {population[:12]}" + (f' ("{label}")' if label else "")


def _way(before: Sequence[Line], stands: Standing) -> str:
    if stands.together and not before:
        return "exact composition"
    return "a filter for runs chosen one after the other"


def _floor(value: float) -> str:
    """Three decimals, never more than there is."""
    return f"{max(0, int(value * 1000) / 1000):g}"
