"""What people read on the screen: the configuration, the gate's counts, a plan, results."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from dp_train.runs.beside import warnings_beside
from dp_train.runs.folder import plain
from dp_train.tracking.provenance import public_config

if TYPE_CHECKING:
    from dp_train.consent.gate import GateReport
    from dp_train.privacy.plan import PrivacyPlan
    from dp_train.privacy.units import SelectionReport
    from dp_train.runs.recipe import Recipe
    from dp_train.runs.result import RunResult
    from dp_train.tasks.base import Sample
    from dp_train.training.callbacks import Callback


def console(*, stderr: bool = False) -> Console:
    """Where verbs print; lines are not broken where the output goes to a file."""
    found = Console(highlight=False, stderr=stderr)
    return found if found.is_terminal else Console(highlight=False, width=200, stderr=stderr)


class ShowRun:
    """Shows how a run goes, on a console."""

    def __init__(self, out: Console | None = None) -> None:
        self._out = out or Console(highlight=False, width=200, force_terminal=False)

    def __reduce__(self) -> tuple[type[ShowRun], tuple[()]]:
        """In another process it shows plain lines: several bars on one terminal would overwrite each other."""
        return ShowRun, ()

    def say(self, line: str) -> None:
        self._out.print(line)

    def failed(self, line: str) -> None:
        print(line, file=sys.stderr)

    def progress(self, title: str) -> Sequence[Callback]:
        from dp_train.tracking.progress import ShowProgress

        return [ShowProgress(title, self._out)]


def show_beside(recipe: Recipe, plan: PrivacyPlan, found: SelectionReport) -> None:
    """Print what is far from what the files hold, on the error stream: it holds counts, and belongs in no log."""
    for line in warnings_beside(recipe, plan, found):
        print(line, file=sys.stderr)


def stopped(outcome: RunResult, out: Console) -> SystemExit:
    """Say that a signal ended a run and how to continue it; the exit that follows."""
    number, result = outcome.result.stopped_by, outcome.result
    assert number is not None
    ended = f"{outcome.label}: ended by {signal.Signals(number).name}, step {result.steps} of {outcome.plan.steps}"
    out.print(f"{ended}; spent: {result.epsilon.describe()}")
    out.print(f"go on with: dp-train train --resume {outcome.folder.path}")
    return SystemExit(128 + number)


def config_tree(tree: DictConfig | Mapping[str, Any]) -> Tree:
    """One line a group, unset values left out."""
    shown = Tree("[bold]config")
    for name, part in public_config(plain(tree)).items():
        if isinstance(part, dict):
            pairs = " ".join(f"{key}={value}" for key, value in part.items() if value not in (None, {}))
            shown.add(f"[bold]{name}[/] [dim]{escape(pairs)}[/]")
        elif part:
            shown.add(f"[bold]{name}[/] {escape(str(part))}")
    return shown


def gate_table(reports: Mapping[str, GateReport]) -> Table:
    """Who was kept and why others were not: counts by reason, one column a population."""
    values = list(reports.values())
    rows = [
        ("conversations seen", [report.conversations_seen for report in values]),
        ("conversations kept", [report.conversations_kept for report in values]),
        ("turns removed", [report.turns_removed for report in values]),
    ]
    for reason in sorted({reason for report in values for reason in report.removed}, key=lambda reason: reason.value):
        counts = [report.removed.get(reason, 0) for report in values]
        rows.append((f"  for: {reason.value.replace('_', ' ')}", counts))
    for reason in sorted({reason for report in values for reason in report.denials}, key=lambda reason: reason.value):
        counts = [report.denials.get(reason, 0) for report in values]
        rows.append((f"denied: {reason.value.replace('_', ' ')}", counts))
    return table(
        ("", *reports),
        [(label, *(f"{count:,}" for count in counts)) for label, counts in rows],
        title="consent gate",
        numbers=True,
    )


def show_funnel(recipe: Recipe, plan: PrivacyPlan, report: GateReport, selection: SelectionReport) -> None:
    """Print what becomes of consented words, with the key that governs each loss, on stderr: nothing keeps it."""
    from dp_train.runs.funnel import funnel, lines

    rows = lines(funnel(recipe, plan, report, selection))
    columns = ("what is left", "", "lost", "governed by")
    console(stderr=True).print(table(columns, rows, title="what becomes of consented words; for your eyes alone"))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", numbers: bool = False) -> Table:
    """A plain table; with `numbers`, all columns but the first are set to the right."""
    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, show_header=any(columns))
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if numbers and index else "left")
    for row in rows:
        made.add_row(*map(escape, row))
    return made


def scores_table(scores: Mapping[str, float]) -> Table:
    """Scores on the evaluation population, each with its interval over people where it has one."""
    rows = []
    for name, value in scores.items():
        if name.endswith(("_low", "_high")) and name.rpartition("_")[0] in scores:
            continue
        low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
        rows.append((name, f"{value:.4g}", "" if low is None or high is None else f"{low:.4g} – {high:.4g}"))
    return table(("score", "", "95 % over people"), rows, numbers=True)


def samples(out: Console, chosen: Sequence[Sample]) -> None:
    """Outputs beside their references, from people who agreed to publication."""
    for number, sample in enumerate(chosen, start=1):
        out.print(f"[bold]sample {number}[/]")
        for name, text in (("prompt", sample.prompt), ("reference", sample.reference), ("output", sample.output)):
            out.print(f"  {name:9} {_shortened(text)}", markup=False)


def _shortened(text: str, limit: int = 320) -> str:
    line = " ⏎ ".join(text.split("\n"))
    return line if len(line) <= limit else f"{line[:limit]} …"
