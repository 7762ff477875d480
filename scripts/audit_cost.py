#!/usr/bin/env python
"""What an audit costs beside its run: processor time of both in one process, so that a busy machine slows both.

    python scripts/audit_cost.py compose/quickstart                       # conformance and the default audit
    python scripts/audit_cost.py summary/quickstart --levels default full

1. a run of the experiment makes the public starting point, then a second run is timed, as every later one is;
2. each level of `dp-train audit` on it, with the seconds of its parts.

In a temporary folder, with a store, a ledger and a tracker of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
import warnings
from pathlib import Path

from dp_train.cli.main import main as dp_train


def seconds_of(*arguments: str) -> tuple[float, str]:
    """CPU seconds of a command and what it printed.

    Raises:
      SystemExit: it failed.
    """
    out, begun = io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(out):
        code = dp_train(list(arguments))
    if code:
        raise SystemExit(f"dp-train {' '.join(arguments)}: exit code {code}")
    return time.process_time() - begun, out.getvalue()


def main() -> None:
    """Train, audit, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("experiment")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--levels", nargs="+", default=["conformance", "default"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    train = ["train", f"experiments={options.experiment}", "trainer.threads=1", *options.overrides]
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        first, _ = seconds_of(*train)
        known = set(Path().glob("runs/*/*/result.json"))
        run, _ = seconds_of(*train)
        (folder,) = (found.parent for found in set(Path().glob("runs/*/*/result.json")) - known)
        print(f"{options.experiment}: run {run:.1f} CPU s ({first:.1f} where the public start is made)", flush=True)
        for level in options.levels:
            audit, printed = seconds_of("audit", str(folder), "--level", level, "--json")
            found = json.loads(printed)
            bounds = ", ".join(f"{one['name']} ε ≥ {one['bound']['epsilon']:.2f}" for one in found["attacks"])
            parts = ", ".join(f"{part} {wall:.1f}" for part, wall in found["seconds"].items())
            print(
                f"{level}: {audit:.1f} CPU s, {audit / run:.2f} × the run; wall seconds: {parts}; {bounds}", flush=True
            )


if __name__ == "__main__":
    main()
