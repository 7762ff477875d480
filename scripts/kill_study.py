"""Kill studies at random moments with SIGKILL, resume each, and compare it with one that nobody touched.

1. sweeps and trade-offs of three short trials, one and two at a time, each once undisturbed under a fixed test seed;
2. again, N times: SIGKILL to the whole process group at a uniformly random moment, then `--resume`; every third resume
   is killed as well and resumed once more;
3. compared: parameters bit for bit, ε of each trial and of all, states, lines of the ledger, records in MLflow, and the
   list of files below the working folder, in which nothing may be left over.

What is killed is `dp_train.cli.main.main` in a process forked after the imports, so that a kill costs seconds; workers
are forked by a fork server in place of being spawned and belong to the same group. With --spawn they are spawned, as by
`dp-train`. Before a study is begun there is nothing to resume: the command is then given again in the same folder.

    python scripts/kill_study.py --kills 50
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import multiprocessing.forkserver
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

SEED = "trainer.seed=20261128"
SMALL = (
    "experiments=compose/quickstart",
    "corpus.people=60",
    "corpus.public_people=40",
    "corpus.evaluation_people=20",
    "model.layers=1",
    "model.width=16",
    "model.heads=1",
    "model.vocab_size=320",
    "task.max_length=48",
    "start.steps=2",
    "start.expected_units=4",
    "privacy.bands=1",
    "trainer.steps=4",
    "trainer.checkpoint_every=1",
    "trainer.expected_units=8",
    "trainer.population=null",
    "trainer.sample_rate=0.2",
    "trainer.threads=1",
    "evaluation.examples=3",
    "evaluation.curve_examples=1",
    "evaluation.samples=1",
)
PRELOADED = ("dp_train.cli.sweep", "dp_train.cli.tradeoff", "dp_train.cli.frontier", "dp_train.runs.trials", "mlflow")
_RANDOM = {  # parts of names that are drawn anew for every working folder: kind of name → where it stands
    "RUN": re.compile(r"\b[0-9a-f]{32}\b"),  # a run of MLflow
    "STORE": re.compile(r"(?<=consent-)[0-9a-f]{16}(?=\.checkpoint\b)"),  # a consent store
}
_PICTURE = re.compile(r"\+timestamp\+[0-9a-f+-]+?(?=\.|\+compressed)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A study: the verb that runs it, and how many trials at once."""

    verb: str
    workers: int

    @property
    def name(self) -> str:
        return f"{self.verb}, {self.workers} at a time"

    @property
    def folder(self) -> str:
        return "multirun/day/study" if self.verb == "sweep" else "runs/day/study"

    @property
    def begin(self) -> list[str]:
        words = [*SMALL, SEED, f"study.workers={self.workers}"]
        if self.verb == "sweep":
            return ["train", "-m", *words, "privacy.epsilon=2,4,8", f"hydra.sweep.dir={self.folder}"]
        return ["tradeoff", *words, "tradeoff.epsilons=[2,8]", f"hydra.run.dir={self.folder}"]

    @property
    def resume(self) -> list[str]:
        return ["train" if self.verb == "sweep" else "tradeoff", "--resume", self.folder, SEED]


CASES = tuple(Case(verb=verb, workers=workers) for workers in (1, 2) for verb in ("sweep", "tradeoff"))


def call(words: list[str], working: Path, *, kill_after: float | None, spawn: bool) -> tuple[int, float]:
    """Run the command line in a process group; exit code (-9 if it was killed) and seconds."""
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(_child(words, working, spawn=spawn))
    os.setpgid(pid, pid)
    if kill_after is not None:
        _wait_until(pid, began + kill_after)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    while _is_group(pid):  # workers of a fork server are its children; they are dead once their group is gone
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(status), time.monotonic() - began


def _wait_until(pid: int, deadline: float) -> None:
    """Sleep until the moment of the kill, or until the process has ended; it stays to be waited for."""
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.005)


def _is_group(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except OSError:
        return False
    return True


def _child(words: list[str], working: Path, *, spawn: bool) -> int:
    os.setpgid(0, 0)
    os.chdir(working)
    _write_to(working.with_suffix(".log"))
    if not spawn:
        _fork_workers(os.getpid())
    from dp_train.cli.main import main

    try:
        code = main(words)
    finally:
        sys.stdout.flush()
    return code


def _write_to(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _fork_workers(group: int) -> None:
    """Let the fork server of the first process make the workers, which then join the group that is killed."""
    from dp_train.runs import workers

    multiprocessing.forkserver.ensure_running = lambda: None  # type: ignore[attr-defined]
    multiprocessing.forkserver._forkserver.ensure_running = lambda: None  # type: ignore[attr-defined,method-assign]
    whole = multiprocessing.get_context
    workers.multiprocessing.get_context = lambda method=None: whole("forkserver")  # type: ignore[attr-defined]
    workers._loop = partial(_worker, group)  # type: ignore[assignment]


def _worker(group: int, pipe: Any, work: Callable[[Any], Any], *more: Any) -> None:
    from dp_train.runs import workers

    os.setpgid(0, group)
    _write_to(Path.cwd().with_suffix(".log"))
    workers._loop(pipe, work, *more)


def facts(case: Case, working: Path) -> dict[str, Any]:
    """Everything about a study that a kill must not change."""
    import torch

    study = working / case.folder
    trials: dict[str, Any] = {}
    for row in json.loads((study / "study.json").read_text())["trials"]:
        folder = study / row["folder"]
        result = json.loads((folder / "result.json").read_text())
        states = sorted(path.name for path in (folder / "checkpoint").iterdir())
        state = torch.load(folder / "checkpoint" / states[-1] / "state.pt", weights_only=True)
        digest = hashlib.sha256()
        for name, tensor in sorted(state["model"].items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        kept = ("status", "steps", "epsilon", "claim", "withheld", "scores", "identity")
        trials[row["folder"]] = {
            "state": row["state"],
            "result": {name: result[name] for name in kept if name != "identity"},
            "checkpoints": states,
            "seeds": state["seeds"],
            "parameters": digest.hexdigest(),
            "exported": hashlib.sha256((folder / "model/model.safetensors").read_bytes()).hexdigest(),
        }
    return {"trials": trials, "ledger": _ledger(working), "mlflow": _records(working), "files": _files(working)}


def _ledger(working: Path) -> Any:
    """Lines and what all of them spend, from the ledger alone."""
    from dp_train.privacy.ledger.budget import standing
    from dp_train.privacy.ledger.ledger import Ledger

    ledger = Ledger.peek(f"sqlite:///{working / 'dp_train.db'}")
    assert ledger is not None
    try:
        book = ledger.book()
        lines = sorted((line.facts.run, line.state.value, line.steps) for line in book.lines.values())
        spent = {
            population: standing(book, population).spent for population in {x.population for x in book.lines.values()}
        }
    finally:
        ledger.close()
    return {"lines": [list(line) for line in lines], "spent": sorted(spent.values())}


def _records(working: Path) -> Any:
    """Runs in MLflow: name, status, parent's name, latest scores."""
    database = sqlite3.connect(working / "mlflow.db")
    try:
        names = dict(database.execute("select run_uuid, name from runs"))
        parents = dict(database.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'"))
        scores: dict[str, list[Any]] = {}
        query = "select run_uuid, key, value from latest_metrics where key like 'utility/%' or key like 'privacy/%'"
        for run, key, value in database.execute(query):
            scores.setdefault(run, []).append([key, value])
        statuses = dict(database.execute("select run_uuid, status from runs"))
    finally:
        database.close()
    return sorted(
        [names[run], statuses[run], names.get(parents.get(run), ""), sorted(scores.get(run, []))] for run in names
    )


def _files(working: Path) -> dict[str, int]:
    """Every file by the kind of its name, and how many there are of it: a second store, or record, is a leftover.

    MLflow keeps each picture that it is given under the moment it got it: a resumed study draws its frontier again.
    """
    names = Counter(kind_of(str(path.relative_to(working))) for path in working.rglob("*"))
    found: dict[str, int] = {}
    for name, count in sorted(names.items()):
        plain = _PICTURE.sub("", name)
        found[plain] = count if plain == name else 1
    return found


def kind_of(name: str) -> str:
    """Return the name of a file with its random parts replaced by what they are the name of."""
    for kind, random_part in _RANDOM.items():
        name = random_part.sub(kind, name)
    return name


def differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where two values differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = sorted({*expected, *found}, key=str)
        return [line for key in keys for line in differences(expected.get(key), found.get(key), f"{path}/{key}")]
    return [] if expected == found else [f"{path}: {found!r}, undisturbed {expected!r}"]


def begin(root: Path, case: Case, name: str) -> Path:
    """An empty working folder."""
    working = root / f"{case.verb}-{case.workers}-{name}"
    shutil.rmtree(working, ignore_errors=True)
    (working / "runs").mkdir(parents=True)
    key = root / "principal.key"
    if not key.exists():
        from dp_train.consent.principals import PrincipalKey

        PrincipalKey.create(key)
    shutil.copy(key, working / "runs" / key.name)  # who is in a run is in its identity, under this key
    return working


def killed(
    root: Path, case: Case, number: int, moments: list[float], expected: Any, *, spawn: bool
) -> tuple[list[str], str]:
    """Kill one study at each of the moments, resume it to the end, compare; what differs, and where it was killed."""
    working = begin(root, case, str(number))
    where = []
    for moment in moments:
        begun = (working / case.folder / "study.json").exists()
        code, _ = call(case.resume if begun else case.begin, working, kill_after=moment, spawn=spawn)
        where.append(f"{_where(case, working)} ({code})")
    code = 1
    if not (working / case.folder / "study.json").exists():
        code, _ = call(case.begin, working, kill_after=None, spawn=spawn)
    else:
        code, _ = call(case.resume, working, kill_after=None, spawn=spawn)
    if code != 0:
        return [f"exit code {code}, see {working.with_suffix('.log')}"], ", ".join(where)
    wrong = differences(expected, facts(case, working))
    if not wrong:
        shutil.rmtree(working)
        working.with_suffix(".log").unlink()
    return wrong, ", ".join(where)


def _where(case: Case, working: Path) -> str:
    """What was going on when it was killed."""
    study = working / case.folder
    if not (study / "study.json").exists():
        return "before the study was begun"
    states = []
    for row in json.loads((study / "study.json").read_text())["trials"]:
        folder = study / row["folder"]
        steps = [path.name for path in (folder / "checkpoint").glob("step-*")] if folder.is_dir() else []
        done = "done" if (folder / "result.json").exists() else steps[-1][-8:].lstrip("-0") or "0" if steps else "-"
        states.append(done)
    return "trials at " + " ".join(states)


def warm() -> None:
    """Fill the caches of accountants, which are pure functions, so that children inherit them."""
    from dp_train.cli.load_config import compose
    from dp_train.engines.cross_check import opinions
    from dp_train.privacy.plan import PrivacyPlan
    from dp_train.runs.grid import tradeoff_trials
    from dp_train.tracking.recompute import guarantee_curve

    recipe, _ = compose([*SMALL, "tradeoff.epsilons=[2,4,8]"])
    plans: list[PrivacyPlan] = [trial.plan for trial in tradeoff_trials(recipe)]
    for plan in plans:
        opinions(plan)
        guarantee_curve(plan, plan.charged(plan.steps))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments; printed with each")
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)), help="which of the four studies")
    parser.add_argument("--spawn", action="store_true", help="start workers as dp-train does")
    parser.add_argument("--folder", type=Path, help="where to work; kept where something differs")
    options = parser.parse_args()
    root = (options.folder or Path(tempfile.mkdtemp(prefix="kill_study_"))).absolute()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    multiprocessing.forkserver.ensure_running()
    for module in PRELOADED:
        __import__(module)
    warm()
    gc.collect()
    gc.freeze()
    chosen = [CASES[index] for index in options.cases]
    whole: dict[str, tuple[Any, float]] = {}
    for case in chosen:
        working = begin(root, case, "undisturbed")
        code, seconds = call(case.begin, working, kill_after=None, spawn=options.spawn)
        if code != 0:
            print(f"{case.name}: undisturbed it ended with {code}, see {working.with_suffix('.log')}")
            return 1
        whole[case.name] = facts(case, working), seconds
        print(f"{case.name}: undisturbed {seconds:.1f} s", flush=True)
    draw, kills, wrong = random.Random(options.seed), 0, 0
    number = 0
    began = time.monotonic()
    while kills < options.kills:
        case = chosen[number % len(chosen)]
        expected, seconds = whole[case.name]
        moments = [draw.uniform(0, seconds) for _ in range(2 if number % 3 == 2 and kills + 1 < options.kills else 1)]
        found, where = killed(root, case, number, moments, expected, spawn=options.spawn)
        kills += len(moments)
        wrong += bool(found)
        print(
            f"{number}: {case.name}, killed at {', '.join(f'{x:.2f}' for x in moments)} s, {where}: "
            f"{'as undisturbed' if not found else ''}",
            flush=True,
        )
        for line in found:
            print(f"    {line[:1000]}", flush=True)
        number += 1
    print(
        f"{kills} kills of {number} studies in {time.monotonic() - began:.0f} s: {wrong} differ from undisturbed ones"
    )
    if not wrong and options.folder is None:
        shutil.rmtree(root)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
