"""How long a suggestion takes while somebody types, letter by letter, with the model of a finished compose run.

python scripts/bench_typing.py RUN
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from pathlib import Path

import torch

from dp_train.runs.folder import RunFolder
from dp_train.runs.load import load
from dp_train.tasks.chat_compose import ChatCompose

MESSAGES = (
    "how do I install this on windows",
    "thanks, that worked for me",
    "I am trying to find the documentation for the router",
)


def main() -> None:
    """Type every message, print milliseconds."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    trained = load(RunFolder(options.run))
    if not isinstance(trained.task, ChatCompose):
        parser.error(f"{options.run}: a run of {trained.task.name}; expected one of chat_compose")
    taken = []
    for message in MESSAGES:
        typing = trained.task.typing(trained.model)
        for letters in range(1, len(message) + 1):
            start = time.perf_counter()
            typing.suggest(message[:letters])
            taken.append((time.perf_counter() - start) * 1e3)
    taken.sort()
    ninth = taken[int(0.9 * len(taken))]
    median = statistics.median(taken)
    print(f"{len(taken)} letters: median {median:.1f} ms, p90 {ninth:.1f} ms, worst {taken[-1]:.1f} ms")


if __name__ == "__main__":
    main()
