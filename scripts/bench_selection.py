"""How many examples a bound of k examples a person keeps: greedy, ours, and the most that any selection could.

    nice python scripts/bench_selection.py                     # the embedded corpus of the quickstarts
    nice python scripts/bench_selection.py --random 100000 50000

`bound` is the linear relaxation by HiGHS where it ends within --patience seconds, else the certificate that our prices
give. PastRun by size: of the meetings with so many people, the share that was kept.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from dp_train.privacy.matching import greedy_within, most_within

Groups = Sequence[Sequence[int]]


def random_meetings(count: int, of: int, seed: int) -> list[list[int]]:
    """Meetings of 2 to 12, sizes geometric, people log-normally busy."""
    random = np.random.default_rng(seed)
    weights = random.lognormal(size=of)
    sizes = np.minimum(1 + random.geometric(0.4, size=count), 12)
    drawn = iter(random.choice(of, size=4 * int(sizes.sum()), p=weights / weights.sum()).tolist())
    meetings = []
    for size in sizes:
        people: set[int] = set()
        while len(people) < size:
            people.add(next(drawn))
        meetings.append(sorted(people))
    return meetings


def embedded(experiment: str, *overrides: str) -> list[list[int]]:
    """Who owns what in an experiment's own corpus."""
    from dp_train.cli.load_config import compose_from
    from dp_train.runs.populations import consented_examples

    options = argparse.Namespace(overrides=[f"experiments={experiment}", *overrides], from_run=None)
    examples = sorted(consented_examples(compose_from(options)[0]), key=lambda example: example.example_id)
    numbers = {person: number for number, person in enumerate(sorted({p for e in examples for p in e.owners}))}
    return [sorted(numbers[person] for person in example.owners) for example in examples]


def linear_bound(groups: Groups, k: int, patience: float) -> float | None:
    """The linear relaxation, or None where it takes too long."""
    people = [person for group in groups for person in group]
    columns = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    incidence = csr_array((np.ones(len(people)), (people, columns)))
    solved = linprog(
        -np.ones(len(groups)),
        A_ub=incidence,
        b_ub=np.full(incidence.shape[0], k),
        bounds=(0, 1),
        method="highs-ds",
        options={"time_limit": patience},
    )
    return float(-solved.fun) if solved.status == 0 else None


def report(name: str, groups: Groups, patience: float) -> None:
    everybody = len({person for group in groups for person in group})
    print(f"\n{name}: {len(groups)} examples of {everybody} people\n")
    print("| k | kept, % of examples | of people | greedy ÷ bound | ours ÷ bound | ours ÷ own bound | s | by size |")
    print("|---|---|---|---|---|---|---|---|")
    sizes = Counter(map(len, groups))
    for k in (1, 2, 4, 8):
        began = time.monotonic()
        matching = most_within(groups, k)
        seconds = time.monotonic() - began
        bound = linear_bound(groups, k, patience)
        against = bound if bound is not None else float(matching.upper_bound)
        kept = len(matching.kept)
        reached = len({person for index in matching.kept for person in groups[index]})
        by_size = Counter(len(groups[index]) for index in matching.kept)
        told = ", ".join(f"{size}: {100 * by_size[size] / sizes[size]:.0f} %" for size in sorted(sizes)[:7])
        print(
            f"| {k} | {100 * kept / len(groups):.1f} | {100 * reached / everybody:.1f} "
            f"| {len(greedy_within(groups, k)) / against:.4f} | {kept / against:.4f}{'' if bound else '*'} "
            f"| {kept / matching.upper_bound:.4f} | {seconds:.1f} | {told} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", nargs=2, type=int, metavar=("MEETINGS", "PEOPLE"))
    parser.add_argument("--patience", type=float, default=20.0, help="seconds for the linear programme")
    options = parser.parse_args()
    if options.random:
        count, of = options.random
        report(f"random, {count} meetings", random_meetings(count, of, seed=0), options.patience)
        return
    report("summary/quickstart", embedded("summary/quickstart"), options.patience)
    report("compose/quickstart, thread", embedded("compose/quickstart", "task.context=thread"), options.patience)


if __name__ == "__main__":
    main()
