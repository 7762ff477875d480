"""Who may still spend: what a population's runs cost together, and whether more may follow.

Two ways to be within a budget, and a run is admitted if one of them holds:

- all lines of the population, the new ones among them, were **declared together**, before the first of them ran:
  composed exactly (`composition.compose`);
- else a **Rényi filter** allows them (`composition.RenyiFilter`), whatever was seen before the new ones were chosen.

Both together are still one guarantee, and do not spend δ twice: a first declaration that only the first way admits
counts in full for ever, so that no filter admits anything after it, whichever of its runs ended early. What ended at
step 0 is as if it had never been declared: nobody saw anything of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dp_train.privacy.composition import Price, RenyiFilter, compose, event_from_json
from dp_train.privacy.joint import JointClaim, Spent, joint_claim
from dp_train.privacy.ledger.lines import Book, Budget, Line, State
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.relations import Unit, strictest

_ROUNDS = 12
"""Halvings on the way to what would fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a population stands.

    Attributes:
      population: its population_id. label: its public name.
      budget: what is declared, for it or for who shares people with it, the smallest; or None. lines: the runs.
      delta: at which the ε below are: the budget's, else the least of the runs'.
      declared: composed as if all runs had been declared together; exact if they were, else too small to promise.
      adaptive: by the filter of the budget; None without a budget, whose filter does not exist.
      together: whether all runs were declared together.
      joined: how many other populations share people with this one; their runs are among the lines.
      raised: whether the budget was raised after the first run. A filter is for one budget: what it says then holds if
        nobody decided on the raise by what runs gave.
    """

    population: str
    label: str | None
    budget: Budget | None
    lines: Sequence[Line]
    delta: float
    declared: Price
    adaptive: float | None
    together: bool
    raised: bool = False
    joined: int = 0

    @property
    def spent(self) -> float:
        """ε that may be promised: exact where the runs were declared together, else by the filter.

        Without a budget there is no filter, and what is composed holds only if nothing was chosen on the way.
        """
        if self.together or self.adaptive is None:
            return self.declared.epsilon
        return self.adaptive

    @property
    def left(self) -> float | None:
        """Budget less what is spent; None without a budget. A run may cost less than its own ε, for runs compose."""
        return None if self.budget is None else max(0.0, self.budget.epsilon - self.spent)

    @property
    def without_bound(self) -> int:
        """How many runs bound nothing for a person: without privacy, or per example."""
        return sum(not line.bounded for line in self.lines)

    @property
    def refuted(self) -> int:
        """How many runs have a claim that an audit refuted: they spent at least what is counted, and maybe more."""
        return sum(line.refuted is not None for line in self.lines)

    @property
    def withheld(self) -> int:
        """How many runs departed from their plan, or have a claim that was refuted: their events bound nothing."""
        return sum(line.withheld for line in self.lines)

    @property
    def joint(self) -> JointClaim:
        """ε of all runs on these people, as if declared together: none where one of them bounds nothing for a person.

        A budget counts the runs that bound something (`spent`); what may be said of all runs is this.
        """
        return joint_claim([spent_of(line) for line in self.lines], delta=self.delta)

    @property
    def open_lines(self) -> int:
        """How many reservations are not settled, and count in full."""
        return sum(line.state is State.OPEN for line in self.lines)


def spent_of(line: Line) -> Spent:
    """What a line spent, for a joint ε."""
    why = ""
    if line.steps > 0 or line.refuted is not None:
        why = line.why_none or ("had no privacy" if line.plan.get("noise_multiplier") == 0 else "")
    return Spent(
        event=None if why else line.event,
        why_none=why,
        relation=line.relation,
        delta=line.delta,
        unit=Unit(line.plan["unit"]),
    )


def standing(book: Book, population: str) -> Standing:
    """Where a population stands, by what the ledger holds."""
    return standing_with(book, population, ())


def standing_with(book: Book, population: str, lines: Sequence[Line]) -> Standing:
    """Where the population would stand with more lines; nothing is written."""
    found = [*book.of(population), *lines]
    group = book.group(population)
    budget = next(iter(book.binding(population)), None)
    stands = _stand(population, book.label(population), budget, found, not group.isdisjoint(book.raised))
    return replace(stands, joined=len(group) - 1)


def _stand(population: str, label: str | None, budget: Budget | None, lines: Sequence[Line], raised: bool) -> Standing:
    bounded = _spending(lines)
    delta = budget.delta if budget else min((line.delta for line in bounded), default=1e-5)
    found = [event_from_json(line.event) for line in bounded]
    return Standing(
        population=population,
        label=label,
        budget=budget,
        lines=lines,
        delta=delta,
        declared=compose(found, strictest(line.relation for line in bounded), delta),
        adaptive=None if budget is None else RenyiFilter(budget.epsilon, budget.delta).spent(_counted(budget, bounded)),
        together=len({line.procedure for line in bounded}) <= 1,
        raised=raised,
    )


def admits_all(budgets: Iterable[Budget], lines: Sequence[Line]) -> bool:
    """Whether all of these lines are within every one of the budgets."""
    return all(admits(budget, lines) for budget in budgets)


def admits(budget: Budget, lines: Sequence[Line]) -> bool:
    """Whether all of these lines, those that are to come among them, are within the budget."""
    bounded = _spending(lines)
    if RenyiFilter(budget.epsilon, budget.delta).allows(_counted(budget, bounded)):
        return True
    if len({line.procedure for line in bounded}) > 1:
        return False
    return (
        compose(_declared(bounded), strictest(line.relation for line in bounded), budget.delta).epsilon
        <= budget.epsilon
    )


def _spending(lines: Sequence[Line]) -> list[Line]:
    """Lines that bound what a person loses, and took a step or may."""
    return [line for line in lines if line.bounded and line.steps > 0]


def _declared(lines: Sequence[Line]) -> list[Any]:
    return [event_from_json(line.full_event) for line in lines]


def _counted(budget: Budget, lines: Sequence[Line]) -> list[Any]:
    """The events that a filter counts: what ran, but a first declaration that no filter would admit in full."""
    first = [line for line in lines if line.procedure == lines[0].procedure]
    if RenyiFilter(budget.epsilon, budget.delta).allows(_declared(first)):
        return [event_from_json(line.event) for line in lines]
    return [*_declared(first), *(event_from_json(line.event) for line in lines[len(first) :])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """The largest changes of one number of a plan that would be admitted; None where no change of it is."""

    steps: int | None
    noise_multiplier: float | None
    epsilon: float | None


def what_fits(plan: PrivacyPlan, admitted: Callable[[PrivacyPlan], bool]) -> Fits:
    """The most steps with the plan's noise, and the least noise with the plan's steps, that would be admitted."""
    steps = None
    if admitted(plan.replace(steps=1)):
        low, high = 1, plan.steps
        for _ in range(_ROUNDS):
            middle = (low + high) // 2
            if middle == low:
                break
            low, high = (middle, high) if admitted(plan.replace(steps=middle)) else (low, middle)
        steps = low
    sigma = epsilon = None
    low_noise, high_noise = plan.calibrated_noise_multiplier, plan.calibrated_noise_multiplier * 2
    while high_noise < 1e4 and not admitted(plan.replace(noise_multiplier=high_noise)):
        low_noise, high_noise = high_noise, high_noise * 4
    if high_noise < 1e4:
        for _ in range(_ROUNDS):
            between = math.sqrt(low_noise * high_noise)
            fits = admitted(plan.replace(noise_multiplier=between))
            low_noise, high_noise = (low_noise, between) if fits else (between, high_noise)
            if high_noise < 1.002 * low_noise:
                break
        sigma = float(f"{high_noise:.4g}")
        sigma = sigma if sigma >= high_noise else float(f"{high_noise * 1.001:.4g}")
        epsilon = plan.replace(noise_multiplier=sigma).epsilon()
    return Fits(steps=steps, noise_multiplier=sigma, epsilon=epsilon)
