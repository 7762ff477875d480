"""How long a ledger of many runs takes to read and to price: equal runs, and unlike ones among them.

    python scripts/bench_ledger.py --equal 300 --unlike 20
    python scripts/bench_ledger.py --equal 1000 --unlike 0

Everything starts cold, in one process, in CPU seconds; the second standing finds the distributions of single steps
kept. `--one-by-one` also composes the runs in the old way, a distribution a run, to compare ε.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dp_accounting.pld import PLDAccountant

from dp_train.privacy.composition import event_from_json
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.requests import Request, line_of, reserve_row
from dp_train.privacy.ledger.rows import Rows
from dp_train.privacy.plan import PrivacyPlan

PEOPLE = "7c1e" * 8


def plans(equal: int, unlike: int) -> list[PrivacyPlan]:
    """Runs as a population sees them: one recipe again and again, and some that differ in σ, q and T."""
    base = PrivacyPlan(sample_rate=0.02, expected_units=64, steps=300, delta=1e-6, noise_multiplier=1.4)
    others = [
        base.replace(noise_multiplier=1.2 + 0.05 * index, sample_rate=0.01 + 0.001 * index, steps=200 + 10 * index)
        for index in range(unlike)
    ]
    return [base] * equal + others


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the CPU seconds of a block."""
    started = time.process_time()
    yield
    print(f"{what:<44} {time.process_time() - started:6.2f} CPU s")


def fill(ledger: Ledger, runs: list[PrivacyPlan]) -> None:
    """Write a line a run, each in a procedure of its own, as runs that came one after the other."""
    lines = [line_of(Request(plan=plan), PEOPLE, secrets.token_hex(8)) for plan in runs]
    rows = Rows(ledger.database)
    with rows.writing() as connection:
        rows.append(connection, rows.read(connection), [reserve_row(line) for line in lines])


def one_by_one(ledger: Ledger, interval: float, delta: float) -> float:
    """ε as it was composed before: one distribution a run."""
    accountant = PLDAccountant(value_discretization_interval=interval)
    for line in ledger.book().of(PEOPLE):
        accountant.compose(event_from_json(line.event))
    return float(accountant.get_epsilon(delta))


def forget() -> None:
    """Drop what is kept between calls."""
    from dp_train.privacy import accounting, composition, renyi

    for kept in (accounting._price, accounting._step_loss, composition._filtered, renyi._renyi):
        kept.cache_clear()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--equal", type=int, default=300)
    parser.add_argument("--unlike", type=int, default=20)
    parser.add_argument("--one-by-one", action="store_true")
    args = parser.parse_args()
    runs = plans(args.equal, args.unlike)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(f"sqlite:///{Path(folder) / 'dp_train.db'}")
        fill(ledger, runs)
        ledger.declare(PEOPLE, epsilon=1000.0, delta=1e-6)
        more = Request(plan=runs[0])
        steps: list[tuple[str, Callable[[], object]]] = [
            ("read the rows and verify their chain", ledger.book),
            ("standing", lambda: ledger.standing(PEOPLE)),
            ("preview of one more", lambda: ledger.preview([more], PEOPLE)),
            ("recompute", lambda: ledger.recompute(PEOPLE)),
            ("verify, every ε derived anew", ledger.verify),
        ]
        for what, step in steps:
            forget()
            with timed(f"{what}, cold"):
                step()
        with timed("standing again, steps kept"):
            ledger.standing(PEOPLE)
        stands = ledger.standing(PEOPLE)
        print(f"ε of {len(runs)} runs: {stands.declared.epsilon:.9g} (interval {stands.declared.interval:g})")
        if args.one_by_one:
            assert stands.declared.interval is not None
            with timed("the same, a distribution a run"):
                found = one_by_one(ledger, stands.declared.interval, stands.delta)
            print(f"ε composed one by one: {found:.9g}")
        ledger.close()


if __name__ == "__main__":
    main()
