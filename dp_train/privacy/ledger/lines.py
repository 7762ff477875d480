"""What the rows of a ledger mean: budgets, and one line for each run.

A row is a JSON body in a hash chain. Nine kinds there are: `declare` sets a budget, `reserve` makes a line, `begin`
says that its run started and on whom, `settle` closes it with what ran, `reopen` continues an interrupted one, `refute`
says that an audit refuted its claim; `people` names a block of digests of a population's people, `same` says that two
of them are one person, and `join` that two populations share people (`people`). Nothing is ever updated; the state is
a fold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from dp_train.errors import StoreError
from dp_train.privacy.composition import Price
from dp_train.privacy.plan import NeighboringRelation, PrivacyPlan, Unit


class State(Enum):
    """Where a line stands. An open line counts in full, so a crash can only over-count."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a line keeps of a run beside its plan; all of it public.

    Never in it: seeds, how many people there are, realised sizes, names.

    Attributes:
      run: what people call it. parent: reservation or tracked run that it is one of.
      engine, sampler: names. purpose, consent_root: of the units.
      cohort: digest of the units under the principal key (`PrincipalKey.sealed`); a bare one would let anyone who
        knows all data but one person's test a guess at it.
      artifacts: what was to be released, e.g. "model".
      versions, commit: what ran.
    """

    run: str = ""
    parent: str | None = None
    engine: str = ""
    sampler: str = "poisson"
    purpose: str = ""
    consent_root: str = ""
    cohort: str | None = None
    artifacts: tuple[str, ...] = ("model",)
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """What a line keeps of how its run ended; public.

    Attributes:
      weights: names of the tensors that it trained, as they were then (`models.weights`): a run that begins with one of
        them goes on with what this one learnt.
      withheld: whether it departed from its plan, so that its event bounds nothing.
    """

    weights: tuple[str, ...] = ()
    withheld: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a population may spend in all, per person; `label` is a public name for it, `reason` why it was changed."""

    epsilon: float
    delta: float
    label: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One run, as the rows so far have it.

    Attributes:
      reservation: its id. population: population_id of the people. procedure: id that runs declared together share.
      state: open, committed or aborted. steps: that ran, or may have. planned_steps: reserved; charged once one ran.
      event: JSON of the charged `DpEvent`, `full_event` of the reserved one.
      price: of the charged event, at `delta`, under `relation`; None where there is no bound per person. What may be
        shown of it is `promised`.
      plan: its public fields; plan_digest names it. facts: the rest.
      first_row: of the chain. row_hash: of the last row that is about it.
      begun: whether a run began on it.
      identity: public name of the run that began on it (`training.identity`).
      before: what trained its model earlier, as `training.phases` writes it.
      end: what is known of the run when it ended.
      refuted: what an audit found against its claim, in public words; None while nothing was found.
    """

    reservation: str
    population: str
    procedure: str
    state: State
    steps: int
    planned_steps: int
    event: str
    full_event: str
    relation: NeighboringRelation
    delta: float
    price: Price | None
    plan: Mapping[str, Any]
    plan_digest: str
    facts: RunFacts
    first_row: int
    row_hash: str
    recorded_at: str
    begun: bool = False
    identity: str | None = None
    before: tuple[Mapping[str, Any], ...] = ()
    end: RunEnd = field(default_factory=lambda: RunEnd())
    refuted: str | None = None

    @property
    def bounded(self) -> bool:
        """Whether the line bounds what a person loses: it had privacy, and its unit was the person."""
        return self.price is not None

    @property
    def withheld(self) -> bool:
        """Whether its event bounds nothing after all: the run departed from its plan, or an audit refuted its claim."""
        return self.end.withheld or self.refuted is not None

    @property
    def why_none(self) -> str:
        """Why no ε of this line may be shown, though it is charged; "" where there is one."""
        if self.refuted is not None:
            return "has a claim that an audit refuted"
        return "has its ε withheld" if self.end.withheld else ""

    @property
    def promised(self) -> float | None:
        """ε that may be shown: None where it is withheld, or nothing is bounded. What is charged is `price`."""
        if self.price is None or self.withheld or not math.isfinite(self.price.epsilon):
            return None
        return self.price.epsilon


def bounds_people(plan: PrivacyPlan) -> bool:
    """Whether a run of the plan promises a person anything; per example or without privacy it does not."""
    return plan.private and plan.unit is Unit.USER


@dataclass(slots=True)
class Book:
    """The state that rows add up to.

    Attributes:
      budgets: of each population, in the order of their declaration; the last one holds.
      lines: by reservation, in the order of their beginning.
      rows, head: how many rows, and the hash of the last.
      raised: populations whose budget was raised when runs of theirs had been reserved.
      people: population → its blocks of digests → name of the secret that they are under.
      same: (name of the secret, digest, digest) of ids that are one person.
      joined: population → all that it shares people with, directly or through others, itself among them.
    """

    budgets: dict[str, list[Budget]] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    rows: int = 0
    head: str = ""
    raised: set[str] = field(default_factory=set)
    people: dict[str, dict[str, str]] = field(default_factory=dict)
    same: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    joined: dict[str, frozenset[str]] = field(default_factory=dict)

    def group(self, population: str) -> frozenset[str]:
        """The populations that are charged as one with a population, itself among them."""
        return self.joined.get(population, frozenset({population}))

    def binding(self, population: str) -> list[Budget]:
        """Every budget that a run on these people has to keep to, the smallest ε first."""
        found = (self.budget(each) for each in sorted(self.group(population)))
        return sorted((one for one in found if one is not None), key=lambda one: one.epsilon)

    def budget(self, population: str) -> Budget | None:
        """The budget that holds."""
        declared = self.budgets.get(population)
        return declared[-1] if declared else None

    def of(self, population: str) -> list[Line]:
        """The lines of a population, and of those that share people with it: one of its people may be in all of them.

        Guarantee: every run that holds one of its people, as far as the ledger can know, is among them.
        """
        group = self.group(population)
        return [line for line in self.lines.values() if line.population in group]

    @property
    def populations(self) -> list[str]:
        """Everybody who has a budget or a line, first come first."""
        return list(dict.fromkeys([*self.budgets, *(line.population for line in self.lines.values())]))

    def label(self, population: str) -> str | None:
        """The newest public name that a user gave the population."""
        labels = [budget.label for budget in self.budgets.get(population, []) if budget.label]
        return labels[-1] if labels else None


def read_book(rows: Iterable[tuple[int, str, str]], *, head: str) -> Book:
    """Fold (seq, row hash, body) into what they add up to; the chain was verified before.

    Raises:
      StoreError: a row that this version cannot read.
    """
    book = Book(head=head)
    for seq, row_hash, text in rows:
        try:
            _apply(book, seq, row_hash, json.loads(text))
        except (KeyError, ValueError, TypeError) as error:
            raise StoreError(
                f"ledger: row {seq} cannot be read ({type(error).__name__}); expected a row of this version or an "
                "older one; use the version that wrote it"
            ) from error
        book.rows = seq
    return book


def _apply(book: Book, seq: int, row_hash: str, row: Mapping[str, Any]) -> None:
    kind = row["kind"]
    if kind == "declare":
        budget = Budget(epsilon=row["epsilon"], delta=row["delta"], label=row["label"], reason=row["reason"])
        old = book.budget(row["population"])
        more = old is not None and (budget.epsilon > old.epsilon or budget.delta > old.delta)
        if more and book.of(row["population"]):
            book.raised.add(row["population"])
        book.budgets.setdefault(row["population"], []).append(budget)
    elif kind == "reserve":
        book.lines[row["reservation"]] = Line(
            reservation=row["reservation"],
            population=row["population"],
            procedure=row["procedure"],
            state=State.OPEN,
            steps=row["plan"]["steps"],
            planned_steps=row["plan"]["steps"],
            event=row["event"],
            full_event=row["event"],
            relation=NeighboringRelation(row["relation"]),
            delta=row["delta"],
            price=_price(row["price"]),
            plan=row["plan"],
            plan_digest=row["plan_digest"],
            facts=_facts(row["facts"]),
            first_row=seq,
            row_hash=row_hash,
            recorded_at=row["recorded_at"],
        )
    elif kind == "begin":
        line = book.lines[row["reservation"]]
        book.lines[line.reservation] = replace(
            line,
            begun=True,
            facts=_facts(row["facts"]) if "facts" in row else line.facts,
            identity=row.get("identity"),
            before=tuple(row.get("before", ())),
            row_hash=row_hash,
        )
    elif kind == "settle":
        line = book.lines[row["reservation"]]
        book.lines[line.reservation] = replace(
            line,
            state=State(row["state"]),
            steps=row["steps"],
            event=row["event"],
            price=_price(row["price"]),
            end=_end(row, line.end),
            row_hash=row_hash,
        )
    elif kind == "reopen":
        line = book.lines[row["reservation"]]
        book.lines[line.reservation] = replace(
            line,
            state=State.OPEN,
            steps=line.planned_steps,
            event=line.full_event,
            price=_price(row["price"]),
            row_hash=row_hash,
        )
    elif kind == "people":
        book.people.setdefault(row["population"], {})[row["block"]] = row["secret"]
    elif kind == "same":
        one, other = map(bytes.fromhex, row["people"])
        book.same.append((row["secret"], one, other))
    elif kind == "join":
        together = frozenset().union(*map(book.group, row["populations"]))
        book.joined.update(dict.fromkeys(together, together))
    elif kind == "refute":
        line = book.lines[row["reservation"]]
        book.lines[line.reservation] = replace(line, refuted=str(row["reason"]), row_hash=row_hash)
    else:
        raise ValueError(kind)


def _end(row: Mapping[str, Any], earlier: RunEnd) -> RunEnd:
    """What a row says of a run's end, and an earlier one of the same line: weights may have left at both.

    What departed once has departed, whatever the rest of the run did.
    """
    weights = tuple(dict.fromkeys([*earlier.weights, *row.get("weights", ())]))
    return RunEnd(weights=weights, withheld=earlier.withheld or bool(row.get("withheld", False)))


def price_values(price: Price | None) -> dict[str, Any] | None:
    """A price as JSON has it; an unbounded ε is null there."""
    if price is None:
        return None
    epsilon = price.epsilon if price.epsilon < float("inf") else None
    return {"epsilon": epsilon, "accountant": price.accountant, "interval": price.interval}


def _price(values: Mapping[str, Any] | None) -> Price | None:
    if values is None:
        return None
    epsilon = float("inf") if values["epsilon"] is None else values["epsilon"]
    return Price(epsilon=epsilon, accountant=values["accountant"], interval=values["interval"])


def facts_values(facts: RunFacts) -> dict[str, Any]:
    """Facts as JSON has them."""
    values = {name: getattr(facts, name) for name in RunFacts.__dataclass_fields__}
    return {**values, "artifacts": list(facts.artifacts), "versions": dict(facts.versions)}


def _facts(values: Mapping[str, Any]) -> RunFacts:
    return RunFacts(**{**values, "artifacts": tuple(values["artifacts"])})
