"""The ledger: budgets and runs of populations, reserved before the first noise is drawn (docs/officer.md).

1. `declare` says what a population may spend in all;
2. `reserve` writes a line before step 0, or refuses; the row is on disk before it returns;
3. `Reservation.commit` or `abort` closes the line with the steps that ran, charged in full unless none did; a crash
   leaves it open, counted in full as well;
4. `standing`, `recompute` and `verify` read, and need nothing but the rows.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dp_train.errors import BudgetError, PrivacyError
from dp_train.privacy.composition import event_json
from dp_train.privacy.ledger.budget import Standing, admits_all, standing, standing_with
from dp_train.privacy.ledger.lines import (
    Book,
    Budget,
    Line,
    RunEnd,
    RunFacts,
    State,
    facts_values,
    price_values,
)
from dp_train.privacy.ledger.people import rows_to_enter, rows_to_link
from dp_train.privacy.ledger.recomputing import first_mispriced, recomputed
from dp_train.privacy.ledger.refusal import check_fits, check_fits_together, population_name
from dp_train.privacy.ledger.requests import Request, line_of, price_of, reserve_row
from dp_train.privacy.ledger.rows import Rows
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.rounding import rounded_up
from dp_train.store.chain import Verified
from dp_train.store.database import Database


@dataclass(frozen=True, slots=True)
class Reservation:
    """A line that is written, of one run; settles it.

    Attributes:
      identifier: id of the line. population: population_id of the people. plan: what was reserved.
      head: hash of the line's row, to be kept where the ledger is not (run folder, card).
      at_least: steps that are charged whatever is said later: all of them where an earlier process was killed and
        nobody knows how far it came.
      facts: what its run knows when it begins, and could not when it was declared (its people's snapshot, say).
    """

    ledger: Ledger = field(repr=False)
    identifier: str
    population: str
    plan: PrivacyPlan
    head: str
    at_least: int = field(default=0, compare=False)
    facts: RunFacts | None = field(default=None, compare=False)

    def check(self, plan: PrivacyPlan, population: str) -> None:
        """Hold a run against what was reserved.

        Raises:
          BudgetError: another plan, or other people.
        """
        if plan.digest != self.plan.digest:
            raise BudgetError(
                f"ledger: reservation {self.identifier} is for plan {self.plan.digest[:12]}; this run has "
                f"{plan.digest[:12]}; reserve the plan that is to run"
            )
        if population != self.population:
            raise BudgetError(
                f"ledger: reservation {self.identifier} is for population {self.population[:12]}; these units are of "
                f"{population[:12]}; reserve for units.population"
            )

    def begin(self, *, resumed: bool, identity: str | None = None, before: Sequence[Mapping[str, Any]] = ()) -> None:
        """Note that the first noise is about to be drawn: a line pays for one run.

        Args:
          resumed: whether the run goes on from its own checkpoint, and so draws the noise that it drew before.
          identity: public name of the run. before: what trained its model earlier, by which later runs inherit it.

        Raises:
          BudgetError: the line is closed, or a run began on it whose checkpoint is not at hand: its steps were, or may
            have been, shown, and other noise for them would be a second release under one charge.
        """
        self.ledger.begin(self, resumed=resumed, identity=identity, before=before)

    def commit(self, steps: int, end: RunEnd | None = None) -> str:
        """Close the line of a run that came to its end; returns the hash of the row. Once more changes nothing.

        Args:
          end: what is known of the weights that it left.
        """
        return self.ledger.settle(self, State.COMMITTED, steps, end)

    def abort(self, steps: int, end: RunEnd | None = None) -> str:
        """Close the line of a run that was ended; returns the hash of the row.

        It keeps how many steps ran, and charges all that were reserved unless none did: that the run ended then may
        have been chosen by what it showed.
        """
        return self.ledger.settle(self, State.ABORTED, max(steps, self.at_least), end)

    @property
    def populations(self) -> frozenset[str]:
        """The populations that are charged as one with this one, itself among them."""
        return self.ledger.book().group(self.population)

    def forgo(self) -> None:
        """Close the line of a run that never began; a line on which one did is left as it is, and counts in full."""
        line = self.ledger.book().lines.get(self.identifier)
        if line is not None and not line.begun:
            self.abort(0)


class Ledger:
    """A ledger in a store of `dp_train.store`; every reading walks the hash chain.

    Guarantee: `reserve` is atomic under concurrent processes, and what it admits keeps every population within its
    declared (ε, δ) per person, as `budget` says. Rows are only ever added; their hashes are made under a key that
    is not in the database (`store.chain_key`), so that whoever can write rows cannot make a chain of them.

    Raises, in every method:
      StoreError: the store cannot be used, or its chain is broken; the row is named.
    """

    def __init__(self, database: Database, *, key: Path | None = None) -> None:
        self._rows = Rows(database, key=key)

    @classmethod
    def open(cls, url: str) -> Ledger:
        """The ledger at a URL as `store.absolute_url` gives it; made where there is none."""
        return cls(Database(url))

    @classmethod
    def peek(cls, url: str) -> Ledger | None:
        """The ledger at a URL, or None where there is no store yet: for those who only look."""
        path = url.removeprefix("sqlite:///")
        return None if path != url and not Path(path).exists() else cls.open(url)

    @property
    def database(self) -> Database:
        """Where it lies."""
        return self._rows.database

    def close(self) -> None:
        """Give the connections back."""
        self._rows.database.close()

    def declare(
        self, population: str, *, epsilon: float, delta: float, label: str | None = None, reason: str | None = None
    ) -> Budget:
        """Set what a population may spend in all; the declarations before it stay in the chain.

        Raises:
          BudgetError: ε or δ is no budget, or one of them is raised without a reason.
        """
        if not 0 < epsilon < float("inf"):
            raise BudgetError(f"ledger: budget epsilon={epsilon!r}; expected a number > 0")
        if not 1e-11 <= delta < 0.1:
            raise BudgetError(f"ledger: budget delta={delta!r}; expected a value in [1e-11, 0.1)")
        reason = (reason or "").strip() or None
        with self._rows.writing() as connection:
            book = self._rows.read(connection)
            old = book.budget(population)
            if old and (epsilon > old.epsilon or delta > old.delta) and not reason:
                raise BudgetError(
                    f"ledger: the budget of {population_name(book, population)} is ε={old.epsilon:g}, δ={old.delta:g}; "
                    f"ε={epsilon:g}, δ={delta:g} is more; give a reason for it (--reason)"
                )
            budget = Budget(epsilon=float(epsilon), delta=float(delta), label=label, reason=reason)
            values = {"epsilon": budget.epsilon, "delta": budget.delta, "label": label, "reason": reason}
            self._rows.append(connection, book, [{"kind": "declare", "population": population, **values}])
        return budget

    def enter(self, population: str, people: Iterable[str]) -> None:
        """Note who a population's people are, and join it with every population that may share one of them.

        Guarantee: from then on the runs and budgets of joined populations count together, so that what the ledger says
        of a person is never less than the composition of all runs that held them, whatever key named them. Where
        populations share a part of their people it is more for the others. Only digests are kept; see `people`.
        """
        self._rows.add(partial(rows_to_enter, population=population, people=people))

    def link_people(self, one: str, other: str) -> None:
        """Note that two ids are one person: populations that hold them are joined, now and later."""
        self._rows.add(partial(rows_to_link, one=one, other=other))

    def reserve(self, plan: PrivacyPlan, population: str, *, facts: RunFacts | None = None) -> Reservation:
        """Reserve one run.

        Raises:
          BudgetError: it would pass the population's budget; says what is left and what would fit.
        """
        return self.reserve_together([Request(plan=plan, facts=facts or RunFacts())], population)[0]

    def reserve_together(self, requests: Sequence[Request], population: str) -> list[Reservation]:
        """Reserve runs whose parameters are all fixed before the first of them begins: all of them, or none.

        Raises:
          BudgetError: together they would pass the population's budget; says what is left and what would fit.
        """
        procedure = secrets.token_hex(8)
        lines = [line_of(request, population, procedure) for request in requests]
        book = self.book()
        checked = book.head
        check_fits(book, population, requests, lines)  # the long part, outside the lock
        with self._rows.writing() as connection:
            now = self._rows.read(connection)
            if now.head != checked:  # another process wrote in the meantime
                check_fits(now, population, requests, lines)
            taken = [line.reservation for line in lines if line.reservation in now.lines]
            if taken:
                raise BudgetError(f"ledger: reservation {taken[0]} exists already; every run has one of its own")
            hashes = self._rows.append(connection, now, [reserve_row(line) for line in lines])
        return [
            Reservation(self, line.reservation, population, request.plan, head)
            for line, request, head in zip(lines, requests, hashes, strict=True)
        ]

    def take_up(self, identifier: str, plan: PrivacyPlan) -> Reservation | None:
        """The reservation of a run that goes on, in full again; None where no such line was ever written.

        An open line is taken as it is, so that a run that was killed and resumed spends once. One that was aborted is
        opened again, if the budget allows. A committed one stays committed.

        Raises:
          BudgetError: the line is of another plan, or the rest of it would pass the budget.
        """
        with self._rows.writing() as connection:
            book = self._rows.read(connection)
            line = book.lines.get(identifier)
            if line is None:
                return None
            if line.plan_digest != plan.digest:
                raise BudgetError(
                    f"ledger: reservation {identifier} is for plan {line.plan_digest[:12]}; this run has "
                    f"{plan.digest[:12]}; resume with the configuration that began the run"
                )
            if line.state is State.OPEN and not line.begun:
                check_fits_together(book, line)
            head, at_least = line.row_hash, line.planned_steps if line.begun else 0
            if line.state is State.ABORTED:
                at_least = line.steps
                price = price_of(line.full_event, line) if line.bounded else None
                whole = replace(line, state=State.OPEN, event=line.full_event, steps=line.planned_steps, price=price)
                others = [other for other in book.of(line.population) if other.reservation != identifier]
                again = [whole if o is line else o for o in book.of(line.population)]
                if not admits_all(book.binding(line.population), again):
                    left, budget = _stand_of(book, line.population, others), book.binding(line.population)[0]
                    raise BudgetError(
                        f"ledger: {population_name(book, line.population)}: the rest of the run does not fit any more; "
                        f"others spent ε={rounded_up(left.spent)} of {budget.epsilon:g}; what ran stays charged"
                    )
                row = {"kind": "reopen", "reservation": identifier, "price": price_values(price)}
                (head,) = self._rows.append(connection, book, [row])
        return Reservation(self, identifier, line.population, plan, head, at_least)

    def begin(
        self,
        reservation: Reservation,
        *,
        resumed: bool,
        identity: str | None = None,
        before: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Note that the run of a line begins; what `Reservation.begin` calls."""
        with self._rows.writing() as connection:
            book = self._rows.read(connection)
            line = book.lines.get(reservation.identifier)
            if line is None or line.state is not State.OPEN:
                raise BudgetError(
                    f"ledger: reservation {reservation.identifier} is "
                    f"{'unknown' if line is None else f'closed ({line.state.value}, {line.steps} steps)'}; it pays for "
                    "one run; reserve the next one anew"
                )
            if line.begun and not resumed:
                raise BudgetError(
                    f"ledger: reservation {reservation.identifier} began a run before, and there is no checkpoint of "
                    "it to go on from; what it reserved stays spent: start a new run, under a reservation of its own"
                )
            if line.begun and line.identity and identity and line.identity != identity:
                raise BudgetError(
                    f"ledger: reservation {reservation.identifier} was begun by run {line.identity[:12]}, and this is "
                    f"{identity[:12]}; a line pays for one run; resume that one, or reserve anew"
                )
            if not line.begun:
                facts = {} if reservation.facts is None else {"facts": facts_values(reservation.facts)}
                row = {"kind": "begin", "reservation": line.reservation, "identity": identity, **facts}
                self._rows.append(connection, book, [{**row, "before": [dict(values) for values in before]}])

    def settle(self, reservation: Reservation, state: State, steps: int, end: RunEnd | None = None) -> str:
        """Close a line; what `Reservation.commit` and `abort` call.

        Raises:
          PrivacyError: there is no such line, it says something else already, or more steps ran than were reserved.
        """
        with self._rows.writing() as connection:
            book = self._rows.read(connection)
            line = book.lines.get(reservation.identifier)
            if line is None or not 0 <= steps <= line.planned_steps:
                raise PrivacyError(
                    f"ledger: reservation {reservation.identifier} cannot be closed with {steps} steps; expected a "
                    "reservation of this ledger and at most the steps that it reserved"
                )
            if line.state is not State.OPEN:
                if (line.state, line.steps) == (state, steps):
                    return line.row_hash
                raise PrivacyError(
                    f"ledger: reservation {reservation.identifier} was closed before ({line.state.value}, "
                    f"{line.steps} steps); resume the run to open it again"
                )
            event = line.full_event
            if steps == 0 and not _chooses(line):
                event = event_json(reservation.plan.event(0))
            price = None
            if line.bounded:
                price = line.price if event == line.full_event else price_of(event, line)
            row = {
                "kind": "settle",
                "reservation": line.reservation,
                "state": state.value,
                "steps": steps,
                "event": event,
                "price": price_values(price),
                "weights": list(end.weights) if end else [],
                "withheld": bool(end and end.withheld),
            }
            return self._rows.append(connection, book, [row])[0]

    def refute(self, identifier: str, reason: str, *, audit: Mapping[str, Any]) -> str:
        """Note that an audit refuted the claim of a line; returns the hash of the row. Once more changes nothing.

        What the line reserved stays charged: the run spent at least that. Reason and measurements are public.

        Raises:
          PrivacyError: there is no such line.
        """
        with self._rows.writing() as connection:
            book = self._rows.read(connection)
            line = book.lines.get(identifier)
            if line is None:
                raise PrivacyError(
                    f"ledger: reservation {identifier} is unknown; expected the line of the run; name the run's store"
                )
            if line.refuted is not None:
                return line.row_hash
            row = {"kind": "refute", "reservation": identifier, "reason": reason, "audit": dict(audit)}
            return self._rows.append(connection, book, [row])[0]

    def book(self, *, until: str | None = None) -> Book:
        """All that the rows say, or those up to the one whose hash is `until`.

        Raises:
          StoreError: the chain is broken, or holds no such row.
        """
        return self._rows.book(until=until)

    def standing(self, population: str) -> Standing:
        """Where a population stands."""
        return standing(self.book(), population)

    def preview(self, requests: Sequence[Request], population: str) -> tuple[Standing, Standing, bool]:
        """Where a population stands, where it would with these runs, and whether they fit; writes nothing."""
        book = self.book()
        lines = [line_of(request, population, "preview") for request in requests]
        admitted = admits_all(book.binding(population), [*book.of(population), *lines])
        return standing(book, population), standing_with(book, population, lines), admitted

    def recompute(self, population: str, *, accountant: str = "pld") -> Mapping[str, float]:
        """ε of every line from its stored event, by reservation, and "together": by "pld" or by "rdp"."""
        return recomputed(self.book(), population, accountant=accountant)

    def verify(self, *, expected_head: str | None = None) -> Verified:
        """Walk the chain, then derive every line's ε again from its stored event; stops at the first that differs.

        Args:
          expected_head: a hash that was kept elsewhere (run folder, card): the chain must pass through it.
        """
        found, book = self._rows.verify(expected_head=expected_head)
        broken = first_mispriced(book)
        return found if broken is None else Verified(broken.seq - 1, found.head, broken)


def _chooses(line: Line) -> bool:
    """Whether the line pays for a choice among runs, which no early end makes cheaper."""
    return "RepeatAndSelect" in line.full_event


def _stand_of(book: Book, population: str, lines: Sequence[Line]) -> Standing:
    return standing(replace(book, lines={line.reservation: line for line in lines}), population)


__all__ = ["Ledger", "Reservation"]
