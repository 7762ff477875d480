"""`dp-train ledger …`: what was spent on whom, and whether the books hold."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from pathlib import Path

from dp_train.cli.ledger_values import finite, line_row, line_values, standing_values
from dp_train.cli.show import console, table
from dp_train.consent.principals import PrincipalKey
from dp_train.errors import ConfigError, StoreError
from dp_train.privacy.ledger.budget import Standing, standing
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import Book
from dp_train.privacy.rounding import rounded_up
from dp_train.runs.heads import check_start
from dp_train.runs.inventory import inventory
from dp_train.runs.project import key_path
from dp_train.store.database import absolute_url

_BAR = 30


def run(options: Namespace) -> int:
    """One verb of the group."""
    verb = {
        "ledger show": _show,
        "ledger declare": _declare,
        "ledger verify": _verify,
        "ledger recompute": _recompute,
        "ledger person": _person,
    }[options.verb]
    url = absolute_url(options.store, Path.cwd())
    if options.verb == "ledger declare" and options.population is None:
        _key(options)  # before a store is made
    ledger = Ledger.open(url) if options.verb == "ledger declare" else Ledger.peek(url)
    if ledger is None:
        raise StoreError("ledger: there is no store here yet; the first run or dp-train ledger declare makes it")
    try:
        check_start(ledger.database)
        return verb(ledger, options)
    finally:
        ledger.close()


def _show(ledger: Ledger, options: Namespace) -> int:
    book = ledger.book()
    stands = [standing(book, population) for population in book.populations]
    if options.json:
        print(json.dumps({"head": book.head, "populations": [standing_values(stand) for stand in stands]}, indent=2))
        return 0
    out = console()
    if not stands:
        out.print("ledger: nothing is declared or reserved yet")
    for stand in stands:
        named = f"{stand.population[:12]}" + (f" ({stand.label})" if stand.label else "")
        out.print(f"[bold]population {named}[/]", highlight=False)
        for line in _sentences(stand):
            out.print(line, markup=False)
        out.print(table(("row", "reservation", "run", "state", "steps", "ε", "δ"), map(line_row, stand.lines)))
    out.print(f"last hash: {book.head}")
    return 0


def _sentences(stand: Standing) -> list[str]:
    lines = []
    if stand.budget is None:
        lines.append("no budget is declared; nothing is refused")
    else:
        share = min(stand.spent / stand.budget.epsilon, 1.0)
        full = min(_BAR, math.ceil(share * _BAR - 1e-9))
        lines.append(
            f"budget ε={stand.budget.epsilon:g}, δ={stand.budget.delta:g} per person  "
            f"[{'█' * full}{'·' * (_BAR - full)}] {rounded_up(stand.spent)} spent"
        )
    runs = f"{len(stand.lines)} run{'s' * (len(stand.lines) != 1)}"
    lines.append(
        f"ε={rounded_up(stand.declared.epsilon)} at δ={stand.delta:g} by {stand.declared.accountant.upper()}, for all "
        f"{runs} on these people (what a study says of its own runs together is a part of it), "
        + (
            "exact: the runs were declared together"
            if stand.together
            else "true only if no run's parameters were chosen after seeing another's result"
        )
    )
    if stand.adaptive is not None and not stand.together:
        lines.append(
            f"ε={rounded_up(stand.adaptive)} by the Rényi filter, whatever was chosen on the way; the budget goes by it"
        )
    if stand.raised:
        lines.append(
            "the budget was raised after the first run: a filter is for one budget, and what it says holds only if the "
            "raise was not decided by what runs gave"
        )
    if stand.joined:
        lines.append(f"{stand.joined} other populations share people with this one; their runs are among these")
    if stand.open_lines:
        lines.append(f"{stand.open_lines} reservations are open and count in full")
    if stand.refuted:
        lines.append(f"{stand.refuted} claims were refuted by an audit: these runs may have spent more than they count")
    if departed := stand.withheld - stand.refuted:
        lines.append(f"{departed} runs have their ε withheld: they departed from their plan, and may have spent more")
    if stand.without_bound:
        lines.append(
            f"{stand.without_bound} runs without a bound per person (without privacy, or per example): their models "
            "promise nothing; keep them inside"
        )
    return lines


def _declare(ledger: Ledger, options: Namespace) -> int:
    population = _population(ledger.book(), options)
    budget = ledger.declare(
        population, epsilon=options.epsilon, delta=options.delta, label=options.label, reason=options.reason
    )
    stand = ledger.standing(population)
    if options.json:
        print(json.dumps(standing_values(stand), indent=2))
        return 0
    console().print(
        f"population {population[:12]}: budget ε={budget.epsilon:g}, δ={budget.delta:g} per person; "
        f"ε={rounded_up(stand.spent)} is spent"
    )
    return 0


def _verify(ledger: Ledger, options: Namespace) -> int:
    found = ledger.verify(expected_head=options.expect)
    if options.json:
        broken = None if found.broken is None else {"row": found.broken.seq, "reason": found.broken.reason}
        print(json.dumps({"rows": found.rows, "head": found.head, "broken": broken}, indent=2))
    if found.broken is not None:
        raise StoreError(f"ledger: {found.broken.reason}; restore the store from a backup")
    if not options.json:
        console().print(f"ledger: {found.rows} rows hold, every ε follows from its event; last hash {found.head}")
    return 0


def _recompute(ledger: Ledger, options: Namespace) -> int:
    population = _population(ledger.book(), options)
    found = ledger.recompute(population, accountant=options.accountant)
    if options.json:
        values = {name: finite(epsilon) for name, epsilon in found.items()}
        print(json.dumps({"population": population, "accountant": options.accountant, "epsilon": values}, indent=2))
        return 0
    stand = ledger.standing(population)
    rows = [(name, rounded_up(epsilon)) for name, epsilon in found.items()]
    console().print(table(("reservation", f"ε at δ={stand.delta:g} by {options.accountant.upper()}"), rows))
    withheld = [line for line in stand.lines if line.bounded and line.withheld]
    if withheld:
        them = ", ".join(line.reservation for line in withheld)
        print(f"these figures are charged and bound no one: the ε of {them} is withheld")
    return 0


def _person(ledger: Ledger, options: Namespace) -> int:
    """Which runs a person was in, by the lists in their folders; everyone has the bound of the whole population."""
    key = _key(options)
    pseudonym, book = key.pseudonym(options.person), ledger.book()
    stand = standing(book, key.population_id)
    found: dict[str, tuple[str, bool]] = {}
    for each in inventory(options.store).runs:
        manifest = each.run.manifest
        if manifest is not None and manifest.population == key.population_id:
            found[manifest.run] = (each.run.name, manifest.holds(pseudonym))
    rows = []
    for line in stand.lines:
        path, inside = found.get(line.reservation, ("folder not found", None if line.begun else False))
        rows.append((line, path, {True: "yes", False: "no", None: "unknown"}[inside]))
    if options.json:
        runs = [{"run": path, "in_it": inside, **line_values(line)} for line, path, inside in rows]
        print(json.dumps({"population": key.population_id, "spent": finite(stand.spent), "runs": runs}, indent=2))
        return 0
    out = console()
    shown = [(line.reservation, inside, line_row(line)[5], path) for line, path, inside in rows]
    out.print(table(("reservation", "in it", "ε", "run folder"), shown))
    for sentence in _sentences(stand):
        out.print(sentence, markup=False)
    out.print("the bound of the population holds for every person in it, whichever runs their data was in")
    return 0


def _population(book: Book, options: Namespace) -> str:
    """Whom a verb is about."""
    if options.population is None:
        return _key(options).population_id
    named = [p for p in book.populations if p.startswith(options.population) or book.label(p) == options.population]
    if len(named) == 1:
        return named[0]
    raise ConfigError(
        f"ledger: --population {options.population}: {len(named)} populations are called so; "
        "expected the start of an id, or a label, that dp-train ledger show shows"
    )


def _key(options: Namespace) -> PrincipalKey:
    """The key of pseudonyms, which names the population that a verb is about."""
    path = key_path(options.key)
    if not path.exists():
        raise ConfigError(
            f"ledger: there is no principal key {options.key}, which names these people; the first run on the embedded "
            "corpus makes it; give the one of your consent events by --key"
        )
    return PrincipalKey.load(path)
