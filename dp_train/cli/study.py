"""What every study has in common on the screen: it is found, run, continued, priced and reported."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from dp_train.cli.show import ShowRun, table
from dp_train.errors import ConfigError, DpTrainError
from dp_train.privacy.rounding import rounded_up
from dp_train.runs.project import ROOTS

if TYPE_CHECKING:
    from dp_train.runs.result import RunResult
    from dp_train.runs.study import Study
    from dp_train.runs.trials import Launch, SharedData
    from dp_train.tracking.run import TrackedRun
    from dp_train.tracking.store import TrackingStore

FILE = "study.json"
DEMO = "dp-train demo"


def find(name: str) -> Path | None:
    """The folder of a study by its path or by the end of its name; None where there is none."""
    if (Path(name) / FILE).is_file():
        return Path(name)
    found = [
        path.parent
        for root in ROOTS
        for path in sorted(root.rglob(FILE))
        if name and path.parent.name.rpartition("-")[2] == name
    ]
    return found[0] if len(found) == 1 else None


def seed_of(options: Namespace) -> int | None:
    """The one word that --resume takes: trainer.seed, which a run or study was begun under and no folder keeps.

    Raises:
      ConfigError: there are other words, or what the option does not go with.
    """
    words = list(options.overrides)
    seed = [word.partition("=")[2] for word in words if word.startswith("trainer.seed=")]
    if len(seed) == len(words) <= 1 and not getattr(options, "multirun", False) and not options.from_run:
        if not seed:
            return None
        if seed[0].isdigit():
            return int(seed[0])
    raise ConfigError(
        f"{options.verb}: --resume goes on with a run or study as it was; it takes no key=value but the "
        "trainer.seed=NUMBER that it was begun with, and no -m or --from-run; use --from-run to start a changed one"
    )


def resume(name: str, out: Console, *, seed: int | None = None) -> int:
    """Continue a study of whichever kind; what has finished is not run again.

    Args:
      seed: the fixed one of its trials, if they had one.

    Raises:
      ConfigError: there is no such study, or it was a demo.
    """
    from dp_train.cli import sweep, tradeoff
    from dp_train.runs.study import Kind, Study

    path = find(name)
    if path is None:
        raise ConfigError(f"study: {name} holds no study that was begun; expected the folder of a sweep or trade-off")
    study = Study.find(path, seed=seed)
    lost = study.without_their_seed()
    if lost:
        out.print(
            f"{lost} trials were to run under a fixed seed, which no folder keeps: they draw secret ones; "
            "trainer.seed=NUMBER beside --resume gives it again"
        )
    return sweep.go(study, out) if study.kind is Kind.SWEEP else tradeoff.go(study, out)


def train_all(
    study: Study,
    shared: SharedData,
    out: Console,
    *,
    store: TrackingStore | None,
    launch: Launch | None = None,
    before: Callable[[TrackedRun | None], None] = lambda parent: None,
    meanwhile: Callable[[TrackedRun | None], None] = lambda parent: None,
    after: Callable[[dict[str, RunResult], TrackedRun | None], None] = lambda results, parent: None,
    title: str,
) -> dict[str, RunResult]:
    """Run what is left of a study under its own record in MLflow.

    Args:
      before, after: called while the record is open.
      meanwhile: too, while trials run side by side in processes of their own, else before the first.
    """
    from dp_train.runs.tracker import followed_parent
    from dp_train.runs.trials import run_study
    from dp_train.runs.workers import workers_that_fit
    from dp_train.tracking.run import RunKind

    recipes = [trial.recipe for trial in study.trials]
    kind = RunKind(study.kind.value)
    try:
        with followed_parent(
            store, recipes, study.folder, name=title, kind=kind, overrides=study.trials[0].overrides
        ) as parent:
            before(parent)
            results = run_study(
                study,
                shared,
                ShowRun(out),
                parent_id=None if parent is None else parent.run_id,
                workers=workers_that_fit(recipes, recipes[0].study.workers),
                launch=launch,
                meanwhile=lambda: meanwhile(parent),
            )
            joint = study.joint()
            if parent is not None and joint.epsilon is not None and joint.runs > 1:
                parent.log_metrics({"privacy/procedure_epsilon": joint.epsilon})
            after(results, parent)
    except (SystemExit, KeyboardInterrupt):
        verb = "train" if study.kind.value == "sweep" else "tradeoff"
        out.print(f"go on with: dp-train {verb} --resume {study.folder.path}")
        raise
    return results


def parent_of(study: Study) -> str | None:
    """Id of the study's own run in MLflow."""
    known = study.folder.read_json("tracking.json").get("run_id")
    return None if known is None else str(known)


def claims(study: Study) -> list[str]:
    """What all trials spend together, and whether they were trained on the same people."""
    joint = study.joint()
    lines = [joint.describe()] if joint.runs > 1 else []
    if study.consent_changed():
        lines.append("consent changed between these runs: they may differ in the people whose words they learnt from")
    return lines


def states(study: Study, out: Console) -> None:
    """Every trial with its state, ε and scores, failures included, and which of them the tuning people choose."""
    from dp_train.runs.result import RESULT, TUNING

    lines = study.lines()
    rows, chosen = [], []
    for trial in study.trials:
        folder = study.folder_of(trial)
        result, (state, error) = folder.read_json(RESULT), study.state_of(trial)
        line = lines.get(folder.run_id or "")
        epsilon = result.get("epsilon")
        if epsilon is None and line is not None and line.begun:
            epsilon = line.promised
        scores, metric = result.get("scores", {}), result.get("metric")
        score, tuning = scores.get(metric), scores.get(f"{TUNING}{metric}")
        if tuning is not None:
            chosen.append((tuning if not result.get("higher_is_better") else -tuning, trial.name, score))
        rows.append(
            (
                trial.folder,
                str(result.get("label", trial.name)),
                state.value.upper(),
                "withheld" if result.get("withheld") or (line and line.withheld) else rounded_up(epsilon),
                f"{tuning:.4g}" if tuning is not None else "",
                f"{result['metric']} {score:.4g}" if score is not None else error or "",
            )
        )
    columns = ("trial", "run", "status", "ε", "tuning people", "score")
    out.print(table(columns, rows, title=str(study.folder.path)))
    if len(chosen) > 1:
        _, name, score = min(chosen)
        whom = study.trials[0].recipe.evaluation.tune_on.value
        out.print(
            f"chosen by the tuning people (evaluation.tune_on={whom}): {name}; its score of {score:.4g} is of "
            "people who chose nothing, and the one to report"
        )


def raise_if_failed(study: Study) -> None:
    """Raise unless every trial finished.

    Raises:
      DpTrainError: some did not; the others are whole.
    """
    from dp_train.runs.study import State

    failed = sum(study.state_of(trial)[0] is not State.FINISHED for trial in study.trials)
    if failed:
        others = "" if failed == len(study.trials) else f"; the others are whole in {study.folder.path}"
        raise DpTrainError(f"{study.kind.value}: {failed} of {len(study.trials)} trials failed, see above{others}")


def command_of(verb: str, words: Sequence[str], from_run: str | None) -> str:
    """The command that gives a study again, without a seed."""
    import shlex

    from dp_train.tracking.provenance import public_overrides

    again = ["--from-run", from_run] if from_run else []
    return shlex.join(["dp-train", *verb.split(), *again, *public_overrides(words)])
