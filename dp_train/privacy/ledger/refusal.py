"""The refusal of runs that would pass a budget, in one line: what they need, what is left, and what would fit."""

from __future__ import annotations

from collections.abc import Sequence

from dp_train.errors import BudgetError
from dp_train.privacy.composition import compose, event_from_json
from dp_train.privacy.ledger.budget import Standing, admits, admits_all, standing, what_fits
from dp_train.privacy.ledger.lines import Book, Line
from dp_train.privacy.ledger.requests import Request, line_of
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.relations import strictest
from dp_train.privacy.rounding import rounded_down, rounded_up


def check_fits(book: Book, population: str, requests: Sequence[Request], lines: Sequence[Line]) -> None:
    """Raise BudgetError if runs would pass the budget of a population: what is needed, what is left, what would fit."""
    before, binding = book.of(population), book.binding(population)
    if not any(line.bounded for line in lines):
        return
    budget = next((each for each in binding if not admits(each, [*before, *lines])), None)
    if budget is None:
        return
    stands = standing(book, population)
    needs = compose(
        [event_from_json(line.event) for line in lines if line.bounded],
        strictest(line.relation for line in lines),
        budget.delta,
    )
    left = f"ε={rounded_down(budget.epsilon - stands.spent)} of {budget.epsilon:g} (δ={budget.delta:g}) is left"
    head = f"ledger: {population_name(book, population)}: "
    what = "the run needs" if len(requests) == 1 else f"the {len(requests)} runs together need"
    rest = "; ask for a larger budget (dp-train ledger declare … --reason)" + _shared(book, population)
    fits = "; declare fewer runs, or more noise"
    if len(requests) == 1 and requests[0].event is None:
        plan = requests[0].plan

        def admitted(changed: PrivacyPlan) -> bool:
            line = line_of(Request(plan=changed), population, lines[0].procedure, priced=False)
            return admits_all(binding, [*before, line])

        found = what_fits(plan, admitted)
        options = [f"trainer.steps={found.steps}"] if found.steps else []
        if found.noise_multiplier is not None and found.epsilon is not None:
            options += [f"noise_multiplier={found.noise_multiplier:g} (ε={rounded_down(found.epsilon)})"]
        fits = f"; what fits: {' or '.join(options)}" if options else "; nothing like it fits any more"
    raise BudgetError(f"{head}{what} ε={rounded_up(needs.epsilon)} and {left}, by {_way(before, stands)}{fits}{rest}")


def check_fits_together(book: Book, line: Line) -> None:
    """Raise BudgetError if a line that was reserved before its people were known does not fit beside others."""
    shared = _shared(book, line.population)
    if not shared or not line.bounded:
        return
    if not admits_all(book.binding(line.population), book.of(line.population)):
        raise BudgetError(
            f"ledger: {population_name(book, line.population)}: its runs pass the budget of its people; use the "
            f"principal key that they were named by first, or ask for a larger budget{shared}"
        )


def _shared(book: Book, population: str) -> str:
    """What a message says of the populations that are charged as one with this one."""
    others = len(book.group(population)) - 1
    return f"; the runs of {others} other populations count, that share people with this one" if others else ""


def population_name(book: Book, population: str) -> str:
    """Return the start of a population's id and its public label, for messages."""
    label = book.label(population)
    return f"population {population[:12]}" + (f' ("{label}")' if label else "")


def _way(before: Sequence[Line], stands: Standing) -> str:
    if stands.together and not before:
        return "exact composition"
    return "a filter for runs chosen one after the other"
