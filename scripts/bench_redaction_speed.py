#!/usr/bin/env python
"""How much faster anonymisation is than in another checkout: CPU time, alternating in one process, and the same result.

    git worktree add ../before COMMIT
    python scripts/bench_redaction_speed.py ../before --gitter FOLDER --messages 10000

Both packages are loaded side by side; threads go through one and the other in turn, twenty at a time, so that whatever
else the machine does slows both. A thread that does not come out the same ends the run.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import statistics
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from bench_redaction import threads

STRETCH = 20


def load(checkout: Path) -> ModuleType:
    """The package `dp_train.anonymize` of a checkout, beside those that are loaded."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "dp_train"}
    for name in kept:
        del sys.modules[name]
    sys.path.insert(0, str(checkout.resolve()))
    importlib.invalidate_caches()
    try:
        return importlib.import_module("dp_train.anonymize")
    finally:
        sys.path.pop(0)
        for name in [name for name in sys.modules if name.split(".")[0] == "dp_train"]:
            del sys.modules[name]
        sys.modules.update(kept)


def main() -> None:
    """Load, compare what comes out, time, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("before", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--gitter", type=Path, required=True, help="folder with messages.jsonl.gz")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    here = Path(__file__).resolve().parent.parent
    old, new = (load(checkout).Anonymizer() for checkout in (args.before, here))
    conversations = list(threads(args.gitter, args.messages))
    messages = sum(len(conversation.turns) for conversation in conversations)
    for conversation in conversations:
        before, after = old(conversation), new(conversation)
        if [turn.text for turn in before.turns] != [turn.text for turn in after.turns]:
            raise SystemExit("bench_redaction_speed: a thread comes out otherwise than before")
    gc.freeze()
    taken: dict[str, list[float]] = {"old": [], "new": []}
    for turn in range(args.rounds):
        spent = {"old": 0.0, "new": 0.0}
        for start in range(0, len(conversations), STRETCH):
            pair: list[tuple[str, Any]] = [("old", old), ("new", new)]
            for name, anonymizer in pair if (start // STRETCH + turn) % 2 else pair[::-1]:
                began = time.process_time()
                for conversation in conversations[start : start + STRETCH]:
                    anonymizer(conversation)
                spent[name] += time.process_time() - began
        for name, seconds in spent.items():
            taken[name].append(seconds)
    ratio = statistics.median(a / b for a, b in zip(taken["old"], taken["new"], strict=True))
    speeds = {name: round(messages / statistics.median(seconds)) for name, seconds in taken.items()}
    print(f"{messages} messages, the same result; old / new {ratio:.2f}; messages a second {speeds}")


if __name__ == "__main__":
    main()
